import java.util.Base64;
import java.util.StringJoiner;
import org.zeromq.SocketType;
import org.zeromq.ZContext;
import org.zeromq.ZFrame;
import org.zeromq.ZMQ;
import org.zeromq.ZMsg;

/**
 * A SUB on JeroMQ: endpoint, connect|bind, count (0: no end), seconds, then prefixes.
 * Each message is a line of JSON on stdout: an array of its frames in base64.
 */
public final class Sub {
    public static void main(String[] args) {
        ZContext context = new ZContext();
        ZMQ.Socket socket = context.createSocket(SocketType.SUB);
        for (int i = 4; i < args.length; i++) {
            socket.subscribe(args[i]);
        }
        boolean ready = args[1].equals("bind") ? socket.bind(args[0]) : socket.connect(args[0]);
        if (!ready) {
            throw new IllegalStateException("cannot " + args[1] + " " + args[0]);
        }
        int count = Integer.parseInt(args[2]);
        long end = System.nanoTime() + Long.parseLong(args[3]) * 1_000_000_000L;
        socket.setReceiveTimeOut(100);
        for (int received = 0; (count == 0 || received < count) && System.nanoTime() < end; ) {
            ZMsg message = ZMsg.recvMsg(socket);
            if (message == null) {
                continue;
            }
            StringJoiner line = new StringJoiner("\",\"", "[\"", "\"]");
            for (ZFrame frame : message) {
                line.add(Base64.getEncoder().encodeToString(frame.getData()));
            }
            System.out.println(line);
            received++;
        }
        System.out.flush();
        Runtime.getRuntime().halt(0);
    }
}
