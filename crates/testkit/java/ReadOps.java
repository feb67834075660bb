import com.fasterxml.jackson.databind.JsonNode;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Base64;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.PartitionInfo;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.record.TimestampType;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/** Reading a topic as it is. */
final class ReadOps {
    private final Map<String, Object> settings;

    ReadOps(Map<String, Object> settings) {
        this.settings = new HashMap<>(settings);
        this.settings.put("enable.auto.commit", "false");
        this.settings.put("auto.offset.reset", "earliest");
        this.settings.put("reconnect.backoff.max.ms", "200");
        this.settings.put("fetch.max.wait.ms", "50");
    }

    /** All records of a topic, up to the ends that it has now, by partition and offset. */
    Object read(JsonNode r) {
        String topic = r.get("topic").asText();
        List<Object> records = new ArrayList<>();
        try (KafkaConsumer<byte[], byte[]> consumer =
                new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            List<TopicPartition> partitions = new ArrayList<>();
            for (PartitionInfo info : consumer.partitionsFor(topic, Duration.ofSeconds(60))) {
                partitions.add(new TopicPartition(topic, info.partition()));
            }
            consumer.assign(partitions);
            Map<TopicPartition, Long> ends = consumer.endOffsets(partitions);
            long deadline = System.nanoTime() + 120_000_000_000L;
            while (ends.entrySet().stream().anyMatch(end -> consumer.position(end.getKey()) < end.getValue())) {
                if (System.nanoTime() > deadline) {
                    throw new IllegalStateException("the ends are not reached: " + ends);
                }
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(200))) {
                    records.add(row(record));
                }
            }
        }
        return records;
    }

    private static Object row(ConsumerRecord<byte[], byte[]> record) {
        List<Object> headers = new ArrayList<>();
        for (Header header : record.headers()) {
            List<Object> pair = new ArrayList<>();
            pair.add(header.key());
            pair.add(text(header.value()));
            headers.add(pair);
        }
        List<Object> row = new ArrayList<>();
        row.add(record.partition());
        row.add(record.offset());
        row.add(record.timestamp());
        row.add(record.timestampType() == TimestampType.LOG_APPEND_TIME);
        row.add(text(record.key()));
        row.add(text(record.value()));
        row.add(headers);
        return row;
    }

    private static String text(byte[] bytes) {
        return bytes == null ? null : Base64.getEncoder().encodeToString(bytes);
    }
}
