import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.ByteArrayOutputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;

/**
 * Kafka's Java clients behind a pipe: a JSON object a line in, one a line out.
 * A request has "id" and "op"; the answer has that "id" and "ok" or "error".
 * Requests run at the same time, each on its own thread. Arguments: client settings as key=value.
 */
public final class Helper {
    static final ObjectMapper JSON = new ObjectMapper();

    public static void main(String[] args) throws Exception {
        Map<String, Object> settings = new HashMap<>();
        for (String arg : args) {
            int equals = arg.indexOf('=');
            settings.put(arg.substring(0, equals), arg.substring(equals + 1));
        }
        PrintStream answers = System.out;
        System.setOut(System.err);
        AdminOps admin = new AdminOps(settings);
        ProduceOps produce = new ProduceOps(settings);
        ReadOps read = new ReadOps(settings);
        Jmx jmx = new Jmx();
        ExecutorService threads = Executors.newCachedThreadPool(task -> {
            Thread thread = new Thread(task);
            thread.setDaemon(true);
            return thread;
        });
        BufferedReader requests = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line; (line = requests.readLine()) != null; ) {
            JsonNode request = JSON.readTree(line);
            threads.submit(() -> answer(request, admin, produce, read, jmx, answers));
        }
        Runtime.getRuntime().halt(0);
    }

    private static void answer(
            JsonNode request, AdminOps admin, ProduceOps produce, ReadOps read, Jmx jmx,
            PrintStream answers) {
        Map<String, Object> answer = new LinkedHashMap<>();
        answer.put("id", request.get("id").asLong());
        try {
            String op = request.get("op").asText();
            Object result;
            if (op.equals("format")) {
                result = format(request);
            } else if (op.equals("measure")) {
                result = jmx.attribute(request);
            } else if (op.equals("read")) {
                result = read.read(request);
            } else if (ProduceOps.OPS.contains(op)) {
                result = produce.run(op, request);
            } else {
                result = admin.run(op, request);
            }
            answer.put("ok", result);
        } catch (Throwable error) {
            Throwable cause = error instanceof java.util.concurrent.ExecutionException && error.getCause() != null
                ? error.getCause() : error;
            answer.put("error", cause.getClass().getSimpleName() + ": " + cause.getMessage());
        }
        try {
            byte[] line = (JSON.writeValueAsString(answer) + "\n").getBytes(StandardCharsets.UTF_8);
            synchronized (answers) {
                answers.write(line);
                answers.flush();
            }
        } catch (Throwable error) {
            // The caller would wait in vain.
            error.printStackTrace();
            Runtime.getRuntime().halt(1);
        }
    }

    /** Formats a node's storage: {"args": [...]} as kafka-storage takes them. */
    private static Object format(JsonNode request) {
        List<String> args = new ArrayList<>();
        request.get("args").forEach(arg -> args.add(arg.asText()));
        ByteArrayOutputStream output = new ByteArrayOutputStream();
        int status = kafka.tools.StorageTool.execute(args.toArray(new String[0]), new PrintStream(output));
        if (status != 0) {
            throw new IllegalStateException("format exited with " + status + ": " + output);
        }
        return true;
    }
}
