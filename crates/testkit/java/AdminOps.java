import com.fasterxml.jackson.databind.JsonNode;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.TreeMap;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.ElectionType;
import org.apache.kafka.common.IsolationLevel;
import org.apache.kafka.common.Node;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.TopicPartitionInfo;
import org.apache.kafka.common.acl.*;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;
import org.apache.kafka.common.quota.ClientQuotaAlteration;
import org.apache.kafka.common.quota.ClientQuotaEntity;
import org.apache.kafka.common.resource.PatternType;
import org.apache.kafka.common.resource.ResourcePattern;
import org.apache.kafka.common.resource.ResourceType;

/** Everything that is asked of Kafka's admin client. */
final class AdminOps {
    private final Map<String, Object> settings;
    private Admin client;

    AdminOps(Map<String, Object> settings) {
        this.settings = new HashMap<>(settings);
        this.settings.putIfAbsent("default.api.timeout.ms", "30000");
        this.settings.putIfAbsent("request.timeout.ms", "5000");
        this.settings.putIfAbsent("reconnect.backoff.max.ms", "200");
        this.settings.putIfAbsent("metadata.max.age.ms", "1000");
    }

    private synchronized Admin client() {
        if (client == null) {
            client = Admin.create(settings);
        }
        return client;
    }

    Object run(String op, JsonNode r) throws Exception {
        switch (op) {
            case "cluster": return cluster();
            case "create_topic": return createTopic(r);
            case "delete_topic": client().deleteTopics(List.of(r.get("topic").asText())).all().get(); return true;
            case "add_partitions":
                client().createPartitions(Map.of(r.get("topic").asText(), NewPartitions.increaseTo(r.get("count").asInt()))).all().get();
                return true;
            case "delete_records":
                client().deleteRecords(Map.of(partition(r), RecordsToDelete.beforeOffset(r.get("before").asLong()))).all().get();
                return true;
            case "topics": return client().listTopics(new ListTopicsOptions().listInternal(true)).names().get();
            case "describe": return describe(r.get("topic").asText());
            case "committed": return committed(r.get("group").asText());
            case "groups": return groups();
            case "group": return group(r.get("group").asText());
            case "alter_offsets": return alterOffsets(r);
            case "delete_offsets":
                client().deleteConsumerGroupOffsets(r.get("group").asText(), Set.of(partition(r))).all().get();
                return true;
            case "delete_group": client().deleteConsumerGroups(List.of(r.get("group").asText())).all().get(); return true;
            case "make_share_group": return makeShareGroup(r);
            case "allow": return allow(r);
            case "revoke": return revoke(r);
            case "set_config": return setConfig(r);
            case "move_leader": return moveLeader(r);
            case "leader": return leader(partition(r));
            case "limit": return limit(r);
            case "coordinator": return coordinator(r.get("group").asText());
            case "add_scram": return addScram(r);
            default: throw new IllegalArgumentException("unknown op " + op);
        }
    }

    /** The leader's id, null where the broker that tells knows of none (yet). Asks no other one. */
    private Object leader(TopicPartition tp) throws Exception {
        TopicDescription topic;
        try {
            topic = client().describeTopics(List.of(tp.topic())).allTopicNames().get().get(tp.topic());
        } catch (ExecutionException error) {
            if (error.getCause() instanceof UnknownTopicOrPartitionException) {
                return null;
            }
            throw error;
        }
        Node leader = topic.partitions().get(tp.partition()).leader();
        return leader == null || leader.isEmpty() ? null : leader.id();
    }

    private static TopicPartition partition(JsonNode r) {
        return new TopicPartition(r.get("topic").asText(), r.get("partition").asInt());
    }

    private Object cluster() throws Exception {
        DescribeClusterResult result = client().describeCluster(new DescribeClusterOptions().timeoutMs(5000));
        List<Integer> nodes = new ArrayList<>();
        for (Node node : result.nodes().get()) {
            nodes.add(node.id());
        }
        return Map.of("id", result.clusterId().get(), "nodes", nodes);
    }

    private Object createTopic(JsonNode r) throws Exception {
        NewTopic topic;
        if (r.hasNonNull("assignment")) {
            Map<Integer, List<Integer>> assignment = new HashMap<>();
            for (int p = 0; p < r.get("assignment").size(); p++) {
                List<Integer> replicas = new ArrayList<>();
                r.get("assignment").get(p).forEach(n -> replicas.add(n.asInt()));
                assignment.put(p, replicas);
            }
            topic = new NewTopic(r.get("topic").asText(), assignment);
        } else {
            topic = new NewTopic(r.get("topic").asText(), Optional.of(r.get("partitions").asInt()), Optional.empty());
        }
        Map<String, String> configs = new HashMap<>();
        r.get("configs").fields().forEachRemaining(e -> configs.put(e.getKey(), e.getValue().asText()));
        client().createTopics(List.of(topic.configs(configs))).all().get();
        return true;
    }

    private Object describe(String topic) throws Exception {
        TopicDescription description = client().describeTopics(List.of(topic)).allTopicNames().get().get(topic);
        Map<TopicPartition, OffsetSpec> earliest = new HashMap<>();
        Map<TopicPartition, OffsetSpec> latest = new HashMap<>();
        for (TopicPartitionInfo info : description.partitions()) {
            earliest.put(new TopicPartition(topic, info.partition()), OffsetSpec.earliest());
            latest.put(new TopicPartition(topic, info.partition()), OffsetSpec.latest());
        }
        var first = client().listOffsets(earliest).all().get();
        var end = client().listOffsets(latest).all().get();
        var stable = client().listOffsets(latest, new ListOffsetsOptions(IsolationLevel.READ_COMMITTED)).all().get();
        List<Object> partitions = new ArrayList<>();
        for (TopicPartitionInfo info : description.partitions()) {
            TopicPartition tp = new TopicPartition(topic, info.partition());
            Map<String, Object> one = new LinkedHashMap<>();
            one.put("partition", info.partition());
            one.put("leader", info.leader() == null ? -1 : info.leader().id());
            one.put("replicas", info.replicas().stream().map(Node::id).toList());
            one.put("isr", info.isr().stream().map(Node::id).toList());
            one.put("earliest", first.get(tp).offset());
            one.put("latest", end.get(tp).offset());
            one.put("stable", stable.get(tp).offset());
            partitions.add(one);
        }
        return Map.of("topic_id", description.topicId().toString(), "partitions", partitions);
    }

    private Object committed(String group) throws Exception {
        List<Object> result = new ArrayList<>();
        client().listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get().forEach((tp, offset) -> {
            if (offset != null) {
                result.add(List.of(tp.topic(), tp.partition(), offset.offset()));
            }
        });
        return result;
    }

    private Object groups() throws Exception {
        Map<String, Object> result = new TreeMap<>();
        for (GroupListing group : client().listGroups().all().get()) {
            result.put(group.groupId(), group.type().map(Object::toString).orElse("Unknown"));
        }
        return result;
    }

    private Object group(String name) throws Exception {
        ConsumerGroupDescription group = client().describeConsumerGroups(List.of(name)).all().get().get(name);
        List<Object> members = new ArrayList<>();
        for (MemberDescription member : group.members()) {
            List<Object> assigned = new ArrayList<>();
            member.assignment().topicPartitions().forEach(tp -> assigned.add(List.of(tp.topic(), tp.partition())));
            members.add(Map.of("id", member.consumerId(), "client", member.clientId(),
                "instance", member.groupInstanceId().orElse(""), "assignment", assigned));
        }
        return Map.of("type", group.type().toString(), "state", group.groupState().toString(),
            "coordinator", group.coordinator().id(), "members", members);
    }

    private int coordinator(String group) throws Exception {
        return client().describeConsumerGroups(List.of(group)).all().get().get(group).coordinator().id();
    }

    private Object alterOffsets(JsonNode r) throws Exception {
        client().alterConsumerGroupOffsets(r.get("group").asText(),
            Map.of(partition(r), new OffsetAndMetadata(r.get("offset").asLong()))).all().get();
        return true;
    }

    private Object makeShareGroup(JsonNode r) throws Exception {
        String group = r.get("group").asText();
        Map<String, Object> all = new HashMap<>(settings);
        all.keySet().removeIf(key -> key.equals("default.api.timeout.ms") || key.equals("request.timeout.ms"));
        all.put("group.id", group);
        var bytes = new org.apache.kafka.common.serialization.ByteArrayDeserializer();
        try (var consumer = new org.apache.kafka.clients.consumer.KafkaShareConsumer<>(all, bytes, bytes)) {
            consumer.subscribe(List.of(r.get("topic").asText()));
            for (int attempt = 0; attempt < 100; attempt++) {
                consumer.poll(java.time.Duration.ofMillis(200));
                for (GroupListing listed : client().listGroups().all().get()) {
                    if (listed.groupId().equals(group)) {
                        return true;
                    }
                }
            }
        }
        throw new IllegalStateException("no share group " + group);
    }

    private static ResourcePattern resource(JsonNode r) {
        return new ResourcePattern(ResourceType.fromString(r.get("resource").asText()), r.get("name").asText(),
            r.path("prefixed").asBoolean() ? PatternType.PREFIXED : PatternType.LITERAL);
    }

    private static AccessControlEntry entry(JsonNode r) {
        return new AccessControlEntry("User:" + r.get("user").asText(), "*",
            AclOperation.fromString(r.get("operation").asText()), AclPermissionType.ALLOW);
    }

    private Object allow(JsonNode r) throws Exception {
        client().createAcls(List.of(new AclBinding(resource(r), entry(r)))).all().get();
        return true;
    }

    private Object revoke(JsonNode r) throws Exception {
        client().deleteAcls(List.of(new AclBinding(resource(r), entry(r)).toFilter())).all().get();
        return true;
    }

    private Object setConfig(JsonNode r) throws Exception {
        ConfigResource resource = new ConfigResource(
            ConfigResource.Type.valueOf(r.get("type").asText().toUpperCase()), r.get("name").asText());
        client().incrementalAlterConfigs(Map.of(resource, List.of(new AlterConfigOp(
            new ConfigEntry(r.get("key").asText(), r.get("value").asText()), AlterConfigOp.OpType.SET)))).all().get();
        return true;
    }

    /** Makes "node" the first replica and elects it. */
    private Object moveLeader(JsonNode r) throws Exception {
        TopicPartition tp = partition(r);
        int wanted = r.get("node").asInt();
        List<Integer> replicas = new ArrayList<>();
        replicas.add(wanted);
        client().describeTopics(List.of(tp.topic())).allTopicNames().get().get(tp.topic()).partitions()
            .get(tp.partition()).replicas().forEach(n -> { if (n.id() != wanted) replicas.add(n.id()); });
        client().alterPartitionReassignments(
            Map.of(tp, Optional.of(new NewPartitionReassignment(replicas)))).all().get(20, TimeUnit.SECONDS);
        for (int attempt = 0; ; attempt++) {
            var election = client().electLeaders(ElectionType.PREFERRED, Set.of(tp)).partitions().get().get(tp);
            if (election.isEmpty() || election.get() instanceof org.apache.kafka.common.errors.ElectionNotNeededException) {
                return true;
            }
            if (attempt == 100) {
                throw new IllegalStateException("leader did not move: " + election.get());
            }
            Thread.sleep(100);
        }
    }

    /** Sets the quota "kind" for each client that has none of its own, or takes it away where the rate is null. */
    private Object limit(JsonNode r) throws Exception {
        Double rate = r.hasNonNull("bytes_per_second") ? r.get("bytes_per_second").asDouble() : null;
        ClientQuotaEntity every = new ClientQuotaEntity(Collections.singletonMap(ClientQuotaEntity.CLIENT_ID, null));
        client().alterClientQuotas(List.of(new ClientQuotaAlteration(every,
            List.of(new ClientQuotaAlteration.Op(r.get("kind").asText(), rate))))).all().get();
        return true;
    }

    private Object addScram(JsonNode r) throws Exception {
        ScramMechanism mechanism = ScramMechanism.fromMechanismName(r.get("mechanism").asText());
        client().alterUserScramCredentials(List.of(new UserScramCredentialUpsertion(r.get("user").asText(),
            new ScramCredentialInfo(mechanism, 4096), r.get("password").asText()))).all().get();
        return true;
    }
}
