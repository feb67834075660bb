import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.StringJoiner;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.zeromq.SocketType;
import org.zeromq.ZContext;
import org.zeromq.ZFrame;
import org.zeromq.ZMQ;
import org.zeromq.ZMsg;

/**
 * A SUB or a DEALER with CURVE at a zafka route.
 * Usage: Curve sub SERVER.key OURS.key_secret ENDPOINT PREFIX
 *        Curve dealer SERVER.key OURS.key_secret ENDPOINT FRAME...
 *        Curve enrol SERVER.key OURS.key_secret DOOR
 * enrol shows the token in the file that the variable TOKEN_FILE names at the relay's door, which lets
 * in the key: this library cannot show it in the handshake.
 */
public final class Curve {
    /** Time that an answer has. */
    private static final int ANSWER_MS = 10_000;

    public static void main(String[] args) throws Exception {
        boolean isEnrol = args.length == 4 && args[0].equals("enrol");
        if (args.length < 5 && !isEnrol) {
            System.err.println("usage: Curve sub|dealer|enrol SERVER.key OURS.key_secret ENDPOINT WORD...");
            System.exit(2);
        }
        boolean isSub = args[0].equals("sub");
        List<String> frames = isEnrol ? enrolment() : List.of(args).subList(4, args.length);
        try (ZContext context = new ZContext()) {
            while (true) {
                ZMQ.Socket socket = context.createSocket(isSub ? SocketType.SUB : SocketType.DEALER);
                socket.setCurveServerKey(key(args[1], "public-key"));
                socket.setCurvePublicKey(key(args[2], "public-key"));
                socket.setCurveSecretKey(key(args[2], "secret-key"));
                if (isSub) {
                    socket.subscribe(args[4]);
                } else {
                    socket.setReceiveTimeOut(ANSWER_MS);
                }
                socket.connect(args[3]);
                if (!isSub) {
                    ZMsg.newStringMsg(frames.toArray(String[]::new)).send(socket);
                }
                ZMsg message;
                while ((message = ZMsg.recvMsg(socket)) != null) {
                    StringJoiner line = new StringJoiner(" ");
                    for (ZFrame frame : message) {
                        line.add(frame.getString(StandardCharsets.UTF_8));
                    }
                    System.out.println(line);
                    if (!isSub) {
                        return;
                    }
                }
                // Once more with a new socket: a connection of this library may hang from its
                // beginning. What was answered nevertheless is then in the log twice.
                socket.close();
            }
        }
    }

    /** The frames that enrol our key. A token has no character that JSON would escape. */
    private static List<String> enrolment() throws Exception {
        String token = Files.readString(Path.of(System.getenv("TOKEN_FILE"))).strip();
        return List.of("ZAFKA/1", "ENROL", "{\"id\":\"1\",\"token\":\"" + token + "\"}");
    }

    /** A key of a certificate, as `zafka keygen` writes it. */
    private static byte[] key(String path, String name) throws Exception {
        Pattern line = Pattern.compile("^ +" + name + " = \"(.{40})\"$", Pattern.MULTILINE);
        Matcher found = line.matcher(Files.readString(Path.of(path)));
        if (!found.find()) {
            throw new IllegalArgumentException(path + ": no " + name);
        }
        return ZMQ.Curve.z85Decode(found.group(1));
    }
}
