import com.google.gson.Gson;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.Map;
import org.zeromq.SocketType;
import org.zeromq.ZContext;
import org.zeromq.ZMQ;
import org.zeromq.ZMsg;

/**
 * Prints the records of a zafka route with {@code frames = "json"}, and what is missing among them.
 * Usage: Subscribe.java ENDPOINT [PREFIX...]
 */
public final class Subscribe {
    /** The fields of the meta frame that are needed here; prev is null if it is not known. */
    private static final class Meta {
        String topic;
        int partition;
        long offset;
        Long prev;
        boolean null_key;
        boolean null_value;
    }

    public static void main(String[] args) {
        ZMQ.Socket socket = new ZContext().createSocket(SocketType.SUB);
        for (int i = 1; i < args.length; i++) {
            socket.subscribe(args[i]);
        }
        if (args.length == 1) {
            socket.subscribe("");
        }
        socket.connect(args[0]);

        // The newest offset of each partition.
        Map<String, Long> last = new HashMap<>();
        Gson gson = new Gson();
        while (true) {
            ZMsg message = ZMsg.recvMsg(socket);
            message.pop();
            Meta meta = gson.fromJson(message.popString(), Meta.class);
            byte[] key = message.pop().getData();
            byte[] value = message.pop().getData();
            String partition = meta.topic + "/" + meta.partition;
            Long seen = last.put(partition, meta.offset);
            if (seen != null) {
                missing(partition, seen, meta);
            }
            System.out.println(partition + " @" + meta.offset + " " + text(key, meta.null_key)
                + " " + text(value, meta.null_value));
        }
    }

    private static void missing(String partition, long seen, Meta meta) {
        if (meta.offset <= seen) {
            System.out.println(partition + " back: @" + seen + " to @" + meta.offset);
        } else if (meta.prev == null) {
            // The relay has just begun with the partition: it knows of no record before this one.
            if (meta.offset > seen + 1) {
                System.out.println(
                    partition + " unknown: @" + (seen + 1) + " to @" + (meta.offset - 1));
            }
        } else if (meta.prev > seen) {
            System.out.println(partition + " gap: @" + (seen + 1) + " to @" + meta.prev);
        }
    }

    private static String text(byte[] frame, boolean isNull) {
        return isNull ? "null" : new String(frame, StandardCharsets.UTF_8);
    }
}
