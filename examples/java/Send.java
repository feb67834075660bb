import com.google.gson.Gson;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.LinkedHashMap;
import java.util.Map;
import org.zeromq.SocketType;
import org.zeromq.ZContext;
import org.zeromq.ZMQ;
import org.zeromq.ZMsg;

/**
 * Sends the lines of standard input to a zafka route, and prints where each is in Kafka's log.
 * Usage: Send.java ENDPOINT TOPIC [KEY]
 *
 * <p>The route is a {@code router} with {@code frames = ["{id}", "{topic}", "{key}", "{value}"]}.
 */
public final class Send {
    /** Lines that have no answer yet, at the most. */
    private static final int WINDOW = 1000;
    /**
     * After so many ms without an answer all of them are sent again: JeroMQ connects again by itself,
     * and tells nobody what was lost. Some may then be in the log twice.
     */
    private static final int SILENCE = 10_000;

    /** The offset is null if the cluster did not tell it. */
    private static final class Place {
        String topic;
        int partition;
        Long offset;
    }

    private final ZMQ.Socket socket;
    private final String topic;
    private final String key;
    /** By id, in their order. */
    private final Map<String, String> unanswered = new LinkedHashMap<>();
    private final Gson gson = new Gson();
    private boolean refused;

    private Send(ZMQ.Socket socket, String topic, String key) {
        this.socket = socket;
        this.topic = topic;
        this.key = key;
    }

    public static void main(String[] args) throws IOException {
        try (ZContext context = new ZContext()) {
            ZMQ.Socket socket = context.createSocket(SocketType.DEALER);
            socket.setReceiveTimeOut(SILENCE);
            socket.connect(args[0]);
            Send send = new Send(socket, args[1], args.length > 2 ? args[2] : "");
            send.all(new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8)));
            System.exit(send.refused ? 1 : 0);
        }
    }

    private void all(BufferedReader lines) throws IOException {
        int number = 0;
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            while (unanswered.size() >= WINDOW) {
                receive();
            }
            String id = Integer.toString(number++);
            unanswered.put(id, line);
            send(id, line);
            for (ZMsg answer = next(ZMQ.DONTWAIT); answer != null; answer = next(ZMQ.DONTWAIT)) {
                take(answer);
            }
        }
        while (!unanswered.isEmpty()) {
            receive();
        }
    }

    private void send(String id, String value) {
        ZMsg message = new ZMsg();
        for (String frame : new String[] {id, topic, key, value}) {
            message.add(frame.getBytes(StandardCharsets.UTF_8));
        }
        message.send(socket);
    }

    private ZMsg next(int flags) {
        return ZMsg.recvMsg(socket, flags);
    }

    private void receive() {
        ZMsg answer = next(0);
        if (answer == null) {
            unanswered.forEach(this::send);
        } else {
            take(answer);
        }
    }

    private void take(ZMsg answer) {
        String value = unanswered.remove(answer.popString());
        if (value == null) {
            return; // The second answer to what was sent twice.
        }
        String word = answer.popString();
        String body = answer.popString();
        if (word.equals("OK")) {
            Place at = gson.fromJson(body, Place.class);
            System.out.println(at.topic + "/" + at.partition + " @" + at.offset + " " + value);
        } else {
            refused = true;
            System.out.println("refused " + value + ": " + body);
        }
    }
}
