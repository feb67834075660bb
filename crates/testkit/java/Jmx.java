import com.fasterxml.jackson.databind.JsonNode;
import com.sun.tools.attach.VirtualMachine;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import javax.management.InstanceNotFoundException;
import javax.management.MBeanServerConnection;
import javax.management.ObjectName;
import javax.management.remote.JMXConnectorFactory;
import javax.management.remote.JMXServiceURL;

/** What a broker's JVM measures, asked of it by its process id. */
final class Jmx {
    private final Map<Long, MBeanServerConnection> connections = new ConcurrentHashMap<>();

    /** An attribute of an MBean: {"pid", "mbean", "attribute"}; null where there is no such MBean (yet). */
    Object attribute(JsonNode r) throws Exception {
        MBeanServerConnection connection = connection(r.get("pid").asLong());
        try {
            return connection.getAttribute(new ObjectName(r.get("mbean").asText()), r.get("attribute").asText());
        } catch (InstanceNotFoundException error) {
            return null;
        }
    }

    private synchronized MBeanServerConnection connection(long pid) throws Exception {
        MBeanServerConnection known = connections.get(pid);
        if (known == null) {
            VirtualMachine machine = VirtualMachine.attach(Long.toString(pid));
            try {
                JMXServiceURL url = new JMXServiceURL(machine.startLocalManagementAgent());
                known = JMXConnectorFactory.connect(url).getMBeanServerConnection();
            } finally {
                machine.detach();
            }
            connections.put(pid, known);
        }
        return known;
    }
}
