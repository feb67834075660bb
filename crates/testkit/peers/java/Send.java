import java.nio.charset.StandardCharsets;
import java.util.Base64;
import java.util.StringJoiner;
import org.zeromq.SocketType;
import org.zeromq.ZContext;
import org.zeromq.ZFrame;
import org.zeromq.ZMQ;
import org.zeromq.ZMsg;

/**
 * A sender on JeroMQ: endpoint, connect|bind, seconds, socket type, topic, count, window, value
 * size; what it sends and prints is as in ../python/send.py.
 */
public final class Send {
    public static void main(String[] args) {
        long end = System.nanoTime() + Long.parseLong(args[2]) * 1_000_000_000L;
        String kind = args[3];
        int count = Integer.parseInt(args[5]);
        int window = kind.equals("req") ? 1 : Integer.parseInt(args[6]);
        int size = Integer.parseInt(args[7]);
        boolean answered = kind.equals("dealer") || kind.equals("req");
        ZContext context = new ZContext();
        context.setLinger(600_000);
        ZMQ.Socket socket = context.createSocket(SocketType.valueOf(kind.toUpperCase()));
        socket.setReceiveTimeOut(100);
        socket.setLinger(600_000);
        boolean ready = args[1].equals("bind") ? socket.bind(args[0]) : socket.connect(args[0]);
        if (!ready) {
            throw new IllegalStateException("cannot " + args[1] + " " + args[0]);
        }
        int sent = 0;
        int received = 0;
        while (sent < count || (answered && received < count)) {
            if (System.nanoTime() > end) {
                throw new IllegalStateException("too late");
            }
            if (sent < count && (!answered || sent - received < window)) {
                message(args[4], sent++, size, answered).send(socket);
                continue;
            }
            ZMsg answer = ZMsg.recvMsg(socket);
            if (answer != null) {
                print(answer);
                received++;
            }
        }
        System.out.flush();
        context.close();
        Runtime.getRuntime().halt(0);
    }

    private static ZMsg message(String topic, int number, int size, boolean answered) {
        StringBuilder value = new StringBuilder(String.format("%020d", number));
        while (value.length() < size) {
            value.append('.');
        }
        ZMsg message = new ZMsg();
        if (answered) {
            message.add(Integer.toString(number));
        }
        message.add(topic);
        message.add("k" + number % 5);
        message.add(value.toString().getBytes(StandardCharsets.US_ASCII));
        return message;
    }

    private static void print(ZMsg message) {
        StringJoiner line = new StringJoiner("\",\"", "[\"", "\"]");
        for (ZFrame frame : message) {
            line.add(Base64.getEncoder().encodeToString(frame.getData()));
        }
        System.out.println(line);
    }
}
