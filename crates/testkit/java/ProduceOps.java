import com.fasterxml.jackson.databind.JsonNode;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Base64;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.Future;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** Writing records, plainly and in transactions. */
final class ProduceOps {
    static final Set<String> OPS =
        Set.of("produce", "produce_sequence", "begin", "commit", "abort", "flush");

    private final Map<String, Object> settings;
    private final Map<String, KafkaProducer<byte[], byte[]>> producers = new ConcurrentHashMap<>();

    ProduceOps(Map<String, Object> settings) {
        this.settings = new HashMap<>(settings);
        this.settings.put("acks", "all");
        this.settings.put("max.request.size", "20000000");
        this.settings.put("buffer.memory", "67108864");
        this.settings.put("batch.size", "65536");
        this.settings.put("reconnect.backoff.max.ms", "200");
        this.settings.put("metadata.max.age.ms", "1000");
    }

    Object run(String op, JsonNode r) throws Exception {
        switch (op) {
            case "produce": return produce(r);
            case "produce_sequence": return produceSequence(r);
            case "begin": transaction(r).beginTransaction(); return true;
            case "flush": transaction(r).flush(); return true;
            case "commit": transaction(r).commitTransaction(); return true;
            case "abort": transaction(r).abortTransaction(); return true;
            default: throw new IllegalArgumentException("unknown op " + op);
        }
    }

    private KafkaProducer<byte[], byte[]> transaction(JsonNode r) {
        return producer("none", r.get("transaction").asText());
    }

    private KafkaProducer<byte[], byte[]> producer(JsonNode r) {
        return producer(r.path("compression").asText("none"), r.path("transaction").asText(null));
    }

    private KafkaProducer<byte[], byte[]> producer(String compression, String transaction) {
        String name = transaction == null ? "plain/" + compression : "transaction/" + transaction;
        return producers.computeIfAbsent(name, n -> {
            Map<String, Object> all = new HashMap<>(settings);
            all.put("compression.type", compression);
            if (transaction != null) {
                all.put("transactional.id", transaction);
                all.put("transaction.timeout.ms", "600000");
            }
            KafkaProducer<byte[], byte[]> made =
                new KafkaProducer<>(all, new ByteArraySerializer(), new ByteArraySerializer());
            if (transaction != null) {
                made.initTransactions();
            }
            return made;
        });
    }

    private static byte[] bytes(JsonNode text) {
        return text == null || text.isNull() ? null : Base64.getDecoder().decode(text.asText());
    }

    private Object produce(JsonNode r) throws Exception {
        KafkaProducer<byte[], byte[]> producer = producer(r);
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        for (JsonNode one : r.get("records")) {
            ProducerRecord<byte[], byte[]> record = new ProducerRecord<>(r.get("topic").asText(),
                one.hasNonNull("partition") ? one.get("partition").asInt() : null,
                one.hasNonNull("timestamp") ? one.get("timestamp").asLong() : null,
                bytes(one.get("key")), bytes(one.get("value")));
            for (JsonNode header : one.path("headers")) {
                record.headers().add(header.get(0).asText(), bytes(header.get(1)));
            }
            sent.add(producer.send(record));
        }
        producer.flush();
        List<Object> result = new ArrayList<>();
        for (Future<RecordMetadata> future : sent) {
            RecordMetadata metadata = future.get();
            result.add(List.of(metadata.partition(), metadata.offset(), metadata.timestamp()));
        }
        return result;
    }

    /** Sequence numbers in values: 20 digits, a space, then filler; see Sequence in the Rust part. */
    private Object produceSequence(JsonNode r) throws Exception {
        KafkaProducer<byte[], byte[]> producer = producer(r);
        String topic = r.get("topic").asText();
        long first = r.get("first").asLong();
        int count = r.get("count").asInt();
        int size = r.get("value_size").asInt();
        int keys = r.get("keys").asInt();
        long perSecond = r.get("per_second").asLong();
        int[] partitions = new int[r.get("partitions").size()];
        for (int i = 0; i < partitions.length; i++) {
            partitions[i] = r.get("partitions").get(i).asInt();
        }
        long start = System.nanoTime();
        List<Future<RecordMetadata>> sent = new ArrayList<>(count);
        for (int i = 0; i < count; i++) {
            long sequence = first + i;
            byte[] key = keys == 0 ? null : ("k" + sequence % keys).getBytes(StandardCharsets.UTF_8);
            Integer partition = partitions.length == 0 ? null : partitions[(int) (sequence % partitions.length)];
            sent.add(producer.send(new ProducerRecord<>(topic, partition, key, value(sequence, size))));
            if (perSecond > 0) {
                long due = start + (i + 1) * 1_000_000_000L / perSecond;
                long wait = (due - System.nanoTime()) / 1_000_000;
                if (wait > 0) {
                    Thread.sleep(wait);
                }
            }
        }
        producer.flush();
        List<Object> result = new ArrayList<>(count);
        for (Future<RecordMetadata> future : sent) {
            RecordMetadata metadata = future.get();
            result.add(new long[] {metadata.partition(), metadata.offset()});
        }
        return result;
    }

    private static byte[] value(long sequence, int size) {
        byte[] digits = String.format("%020d ", sequence).getBytes(StandardCharsets.US_ASCII);
        byte[] value = new byte[Math.max(size, digits.length)];
        System.arraycopy(digits, 0, value, 0, digits.length);
        for (int i = digits.length; i < value.length; i++) {
            value[i] = (byte) ('a' + (sequence + i) % 26);
        }
        return value;
    }
}
