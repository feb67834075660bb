// Writes records.txt with the classes that Kafka's own clients and brokers use. It needs kafka-clients 4.3.1,
// its compression libraries and slf4j-api: java -cp <jars> Records.java > records.txt
import java.nio.ByteBuffer;
import java.util.HexFormat;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.record.TimestampType;
import org.apache.kafka.common.record.internal.*;

public class Records {
    static final long OFFSET = 1000;

    public static void main(String[] args) {
        System.out.println("# Record batches and old messages as Java writes them; see Records.java.");
        for (byte magic = 0; magic <= 2; magic++) {
            for (CompressionType type : CompressionType.values()) {
                if (type == CompressionType.ZSTD && magic < 2) continue;
                for (TimestampType stamp : new TimestampType[] {TimestampType.CREATE_TIME, TimestampType.LOG_APPEND_TIME}) {
                    if (stamp == TimestampType.LOG_APPEND_TIME && magic == 0) continue;
                    ByteBuffer buffer = ByteBuffer.allocate(1 << 20);
                    MemoryRecordsBuilder builder = MemoryRecords.builder(
                        buffer, magic, Compression.of(type).build(), stamp, OFFSET, 1700000009999L);
                    for (SimpleRecord record : records(magic, type != CompressionType.NONE)) builder.append(record);
                    print(magic + " " + type.name + " " + (stamp == TimestampType.CREATE_TIME ? "create" : "append"), builder.build());
                }
            }
        }
        ByteBuffer all = ByteBuffer.allocate(1 << 20);
        put(all, MemoryRecords.withTransactionalRecords(0, Compression.NONE, 7, (short) 0, 0, 0, records((byte) 2, false)));
        put(all, MemoryRecords.withTransactionalRecords(3, Compression.NONE, 8, (short) 0, 0, 0, records((byte) 2, false)));
        put(all, MemoryRecords.withEndTransactionMarker(6, 1L, 0, 7, (short) 0, new EndTransactionMarker(ControlRecordType.ABORT, 0)));
        put(all, MemoryRecords.withEndTransactionMarker(7, 1L, 0, 8, (short) 0, new EndTransactionMarker(ControlRecordType.COMMIT, 0)));
        put(all, MemoryRecords.withTransactionalRecords(8, Compression.NONE, 7, (short) 0, 3, 0, records((byte) 2, false)));
        all.flip();
        print("2 none transactions", MemoryRecords.readableRecords(all));
    }

    static SimpleRecord[] records(byte magic, boolean large) {
        Header[] headers = magic < 2 ? new Header[0]
            : new Header[] {new RecordHeader("a", "1".getBytes()), new RecordHeader("a", null), new RecordHeader("", new byte[0])};
        long time = magic == 0 ? -1 : 1700000000000L;
        byte[] value = "0123456789".repeat(large ? 4000 : 2).getBytes();
        return new SimpleRecord[] {
            new SimpleRecord(time, "key".getBytes(), value, headers),
            new SimpleRecord(magic == 0 ? -1 : time + 5, null, new byte[0]),
            new SimpleRecord(magic == 0 ? -1 : time + 3, new byte[0], null),
        };
    }

    static void put(ByteBuffer all, MemoryRecords records) {
        all.put(records.buffer());
    }

    static void print(String name, MemoryRecords records) {
        byte[] bytes = new byte[records.sizeInBytes()];
        records.buffer().duplicate().get(bytes);
        System.out.println(name + " " + HexFormat.of().formatHex(bytes));
    }
}
