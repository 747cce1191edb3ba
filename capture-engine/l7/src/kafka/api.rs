//! What clients ask of brokers: names, versions, and where a message tells its topic, its group and its
//! error. As Apache Kafka 0.8 to 4.1 have it.

use super::schema::Kind::{
    Acks, Blob, Error, Fixed, Group, List, MaxWait, MinBytes, Plain, Stop, Text, Topic, TopicId,
};
use super::schema::{Field, all, since, until, within};

/// One kind of request.
#[derive(Debug)]
pub(super) struct Api {
    pub name: &'static str,
    /// The newest version that is known here.
    pub newest: i16,
    /// Versions from here on have lengths as varints, and tags.
    flexible: i16,
    /// Empty where nothing of it is read.
    pub request: &'static [Field],
    pub response: &'static [Field],
}

pub(super) const PRODUCE: i16 = 0;
const CONTROLLED_SHUTDOWN: i16 = 7;
const JOIN_GROUP: i16 = 11;
const SYNC_GROUP: i16 = 14;
pub(super) const SASL_HANDSHAKE: i16 = 17;
pub(super) const API_VERSIONS: i16 = 18;

/// What a request asks for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    pub key: i16,
    pub version: i16,
    /// `None`: newer than what is known here.
    pub api: Option<&'static Api>,
}

impl Call {
    pub(super) fn new(key: i16, version: i16) -> Call {
        let api = usize::try_from(key).ok().and_then(|key| APIS.get(key));
        Call { key, version, api }
    }

    pub(super) fn name(self) -> &'static str {
        self.api.map_or("unknown", |api| api.name)
    }

    /// Whether the places of its fields are known.
    pub(super) fn known(self) -> Option<&'static Api> {
        self.api.filter(|api| (0..=api.newest).contains(&self.version))
    }

    pub(super) fn is_flexible(self) -> bool {
        self.api.is_some_and(|api| self.version >= api.flexible)
    }

    /// Tags follow the number of the response: not of ApiVersions, since a client asks for it before it
    /// knows what the server can (KIP-511).
    pub(super) fn response_has_tags(self) -> bool {
        self.is_flexible() && self.key != API_VERSIONS
    }

    /// The oldest header has no name of the client.
    pub(super) fn has_client(self) -> bool {
        !(self.key == CONTROLLED_SHUTDOWN && self.version == 0)
    }

    /// It asks to wait for what others do.
    pub(super) fn waits_for_others(self) -> bool {
        matches!(self.key, JOIN_GROUP | SYNC_GROUP)
    }
}

const NONE: i16 = i16::MAX;
const I8: Field = all(Fixed(1));
const I16: Field = all(Fixed(2));
const I32: Field = all(Fixed(4));
const I64: Field = all(Fixed(8));
const TEXT: Field = all(Text);
const BLOB: Field = all(Blob);
const ERROR: Field = all(Error);
const GROUP: Field = all(Group);
const TOPIC: Field = all(Topic);
const NUMBERS: Field = all(Plain(&[I32]));

const NOTHING: &[Field] = &[];
const JUST_ERROR: &[Field] = &[ERROR, all(Stop)];
/// How long the client was held back comes first.
const THROTTLED: &[Field] = &[I32, ERROR, all(Stop)];
const THROTTLED_SINCE_1: &[Field] = &[since(1, Fixed(4)), ERROR, all(Stop)];
/// The error of the first of many.
const FIRST: &[Field] = &[I32, all(List(&[ERROR, all(Stop)]))];
const FIRST_SINCE_1: &[Field] = &[since(1, Fixed(4)), all(List(&[ERROR, all(Stop)]))];
const FIRST_NAMED: &[Field] = &[I32, all(List(&[TEXT, ERROR, all(Stop)]))];
/// Topics with partitions, and an error of each.
const PARTITIONS: &[Field] = &[I32, all(List(&[TEXT, all(List(&[I32, ERROR]))]))];
/// Ids of topics with partitions.
const SHARED: &[Field] = &[all(List(&[all(Fixed(16)), all(List(&[I32, ERROR, all(Stop)]))]))];

const fn api(
    name: &'static str,
    newest: i16,
    flexible: i16,
    request: &'static [Field],
    response: &'static [Field],
) -> Api {
    Api { name, newest, flexible, request, response }
}

/// Of which the error is at the beginning of the response.
const fn plain(name: &'static str, newest: i16, flexible: i16, response: &'static [Field]) -> Api {
    Api { name, newest, flexible, request: NOTHING, response }
}

/// By their keys.
static APIS: [Api; 93] = [
    api("Produce", 13, 9, PRODUCE_REQUEST, PRODUCE_RESPONSE),
    api("Fetch", 18, 12, FETCH_REQUEST, FETCH_RESPONSE),
    api("ListOffsets", 10, 6, LIST_OFFSETS_REQUEST, LIST_OFFSETS_RESPONSE),
    api("Metadata", 13, 9, METADATA_REQUEST, METADATA_RESPONSE),
    plain("LeaderAndIsr", 7, 4, JUST_ERROR),
    plain("StopReplica", 4, 2, JUST_ERROR),
    plain("UpdateMetadata", 8, 6, JUST_ERROR),
    plain("ControlledShutdown", 3, 3, JUST_ERROR),
    api("OffsetCommit", 10, 8, OFFSET_COMMIT_REQUEST, OFFSET_COMMIT_RESPONSE),
    api("OffsetFetch", 10, 6, OFFSET_FETCH_REQUEST, OFFSET_FETCH_RESPONSE),
    api("FindCoordinator", 6, 3, FIND_COORDINATOR_REQUEST, FIND_COORDINATOR_RESPONSE),
    api("JoinGroup", 9, 6, JOIN_GROUP_REQUEST, &[since(2, Fixed(4)), ERROR, all(Stop)]),
    api("Heartbeat", 4, 4, HEARTBEAT_REQUEST, &[since(1, Fixed(4)), ERROR]),
    api("LeaveGroup", 5, 4, LEAVE_GROUP_REQUEST, LEAVE_GROUP_RESPONSE),
    api("SyncGroup", 5, 4, SYNC_GROUP_REQUEST, THROTTLED_SINCE_1),
    plain("DescribeGroups", 6, 5, FIRST_SINCE_1),
    plain("ListGroups", 5, 3, THROTTLED_SINCE_1),
    plain("SaslHandshake", 1, NONE, JUST_ERROR),
    api("ApiVersions", 4, 3, API_VERSIONS_REQUEST, API_VERSIONS_RESPONSE),
    api("CreateTopics", 7, 5, CREATE_TOPICS_REQUEST, CREATE_TOPICS_RESPONSE),
    api("DeleteTopics", 6, 4, DELETE_TOPICS_REQUEST, DELETE_TOPICS_RESPONSE),
    plain("DeleteRecords", 2, 2, &[I32, all(List(&[TEXT, all(List(&[I32, I64, ERROR]))]))]),
    api("InitProducerId", 6, 2, INIT_PRODUCER_REQUEST, INIT_PRODUCER_RESPONSE),
    plain("OffsetForLeaderEpoch", 4, 4, &[since(2, Fixed(4)), all(List(&[TEXT, all(List(&[ERROR, all(Stop)]))]))]),
    plain("AddPartitionsToTxn", 5, 3, ADD_PARTITIONS_RESPONSE),
    plain("AddOffsetsToTxn", 4, 3, THROTTLED),
    plain("EndTxn", 5, 3, THROTTLED),
    plain("WriteTxnMarkers", 1, 1, &[all(List(&[I64, all(List(&[TEXT, all(List(&[I32, ERROR]))]))]))]),
    plain("TxnOffsetCommit", 5, 3, PARTITIONS),
    plain("DescribeAcls", 3, 2, THROTTLED),
    plain("CreateAcls", 3, 2, FIRST),
    plain("DeleteAcls", 3, 2, FIRST),
    plain("DescribeConfigs", 4, 4, FIRST),
    plain("AlterConfigs", 2, 2, FIRST),
    plain("AlterReplicaLogDirs", 2, 2, PARTITIONS),
    plain("DescribeLogDirs", 4, 2, &[I32, since(3, Error), all(List(&[ERROR, all(Stop)]))]),
    plain("SaslAuthenticate", 2, 2, JUST_ERROR),
    plain("CreatePartitions", 3, 2, FIRST_NAMED),
    plain("CreateDelegationToken", 3, 2, JUST_ERROR),
    plain("RenewDelegationToken", 2, 2, JUST_ERROR),
    plain("ExpireDelegationToken", 2, 2, JUST_ERROR),
    plain("DescribeDelegationToken", 3, 2, JUST_ERROR),
    plain("DeleteGroups", 2, 2, FIRST_NAMED),
    plain("ElectLeaders", 2, 2, &[I32, since(1, Error), all(List(&[TEXT, all(List(&[I32, ERROR, all(Stop)]))]))]),
    plain("IncrementalAlterConfigs", 1, 1, FIRST),
    plain("AlterPartitionReassignments", 1, 0, &[I32, since(1, Fixed(1)), ERROR, all(Stop)]),
    plain("ListPartitionReassignments", 0, 0, THROTTLED),
    plain("OffsetDelete", 0, NONE, JUST_ERROR),
    plain("DescribeClientQuotas", 1, 1, THROTTLED),
    plain("AlterClientQuotas", 1, 1, FIRST),
    plain("DescribeUserScramCredentials", 0, 0, THROTTLED),
    plain("AlterUserScramCredentials", 0, 0, FIRST_NAMED),
    plain("Vote", 2, 0, JUST_ERROR),
    plain("BeginQuorumEpoch", 1, 1, JUST_ERROR),
    plain("EndQuorumEpoch", 1, 1, JUST_ERROR),
    plain("DescribeQuorum", 2, 0, JUST_ERROR),
    plain("AlterPartition", 3, 0, THROTTLED),
    plain("UpdateFeatures", 2, 0, THROTTLED),
    plain("Envelope", 0, 0, NOTHING),
    plain("FetchSnapshot", 1, 0, THROTTLED),
    plain("DescribeCluster", 2, 0, THROTTLED),
    plain("DescribeProducers", 0, 0, &[I32, all(List(&[TEXT, all(List(&[I32, ERROR, all(Stop)]))]))]),
    plain("BrokerRegistration", 4, 0, THROTTLED),
    plain("BrokerHeartbeat", 1, 0, THROTTLED),
    plain("UnregisterBroker", 0, 0, THROTTLED),
    plain("DescribeTransactions", 0, 0, FIRST),
    plain("ListTransactions", 2, 0, THROTTLED),
    plain("AllocateProducerIds", 0, 0, THROTTLED),
    api("ConsumerGroupHeartbeat", 1, 0, &[GROUP, all(Stop)], THROTTLED),
    plain("ConsumerGroupDescribe", 1, 0, FIRST),
    plain("ControllerRegistration", 0, 0, THROTTLED),
    plain("GetTelemetrySubscriptions", 0, 0, THROTTLED),
    plain("PushTelemetry", 0, 0, THROTTLED),
    plain("AssignReplicasToDirs", 0, 0, THROTTLED),
    plain("ListConfigResources", 1, 0, THROTTLED),
    plain("DescribeTopicPartitions", 0, 0, FIRST),
    api("ShareGroupHeartbeat", 1, 0, &[GROUP, all(Stop)], THROTTLED),
    plain("ShareGroupDescribe", 1, 0, FIRST),
    api("ShareFetch", 1, 0, SHARE_FETCH_REQUEST, THROTTLED),
    api("ShareAcknowledge", 1, 0, &[GROUP, all(Stop)], THROTTLED),
    plain("AddRaftVoter", 0, 0, THROTTLED),
    plain("RemoveRaftVoter", 0, 0, THROTTLED),
    plain("UpdateRaftVoter", 0, 0, THROTTLED),
    plain("InitializeShareGroupState", 0, 0, SHARED),
    plain("ReadShareGroupState", 0, 0, SHARED),
    plain("WriteShareGroupState", 0, 0, SHARED),
    plain("DeleteShareGroupState", 0, 0, SHARED),
    plain("ReadShareGroupStateSummary", 0, 0, SHARED),
    api("StreamsGroupHeartbeat", 0, 0, &[GROUP, all(Stop)], THROTTLED),
    plain("StreamsGroupDescribe", 0, 0, FIRST),
    plain("DescribeShareGroupOffsets", 0, 0, NOTHING),
    plain("AlterShareGroupOffsets", 0, 0, THROTTLED),
    plain("DeleteShareGroupOffsets", 0, 0, THROTTLED),
];

const PRODUCE_REQUEST: &[Field] =
    &[since(3, Text), all(Acks), I32, all(List(&[until(12, Topic), since(13, TopicId), all(List(&[I32, BLOB]))]))];
const PRODUCE_RESPONSE: &[Field] = &[
    all(List(&[
        until(12, Text),
        since(13, Fixed(16)),
        all(List(&[
            I32,
            ERROR,
            I64,
            since(2, Fixed(8)),
            since(5, Fixed(8)),
            since(8, List(&[I32, TEXT])),
            since(8, Text),
        ])),
    ])),
    since(1, Fixed(4)),
];

const FETCH_REQUEST: &[Field] = &[
    until(14, Fixed(4)),
    all(MaxWait),
    all(MinBytes),
    since(3, Fixed(4)),
    since(4, Fixed(1)),
    since(7, Fixed(8)),
    all(List(&[
        until(12, Topic),
        since(13, TopicId),
        all(List(&[I32, since(9, Fixed(4)), I64, since(12, Fixed(4)), since(5, Fixed(8)), I32])),
    ])),
    since(7, List(&[until(12, Text), since(13, Fixed(16)), NUMBERS])),
    since(11, Text),
];
const FETCH_RESPONSE: &[Field] = &[
    since(1, Fixed(4)),
    since(7, Error),
    since(7, Fixed(4)),
    all(List(&[
        until(12, Text),
        since(13, Fixed(16)),
        all(List(&[
            I32,
            ERROR,
            I64,
            since(4, Fixed(8)),
            since(5, Fixed(8)),
            since(4, List(&[I64, I64])),
            since(11, Fixed(4)),
            BLOB,
        ])),
    ])),
];

const LIST_OFFSETS_REQUEST: &[Field] = &[
    I32,
    since(2, Fixed(1)),
    all(List(&[TOPIC, all(List(&[I32, since(4, Fixed(4)), I64, until(0, Fixed(4))]))])),
    since(10, Fixed(4)),
];
const LIST_OFFSETS_RESPONSE: &[Field] = &[
    since(2, Fixed(4)),
    all(List(&[TEXT, all(List(&[I32, ERROR, until(0, Plain(&[I64])), since(1, Fixed(16)), since(4, Fixed(4))]))])),
];

const METADATA_REQUEST: &[Field] =
    &[all(List(&[since(10, Fixed(16)), TOPIC])), since(4, Fixed(1)), within(8, 10, Fixed(1)), since(8, Fixed(1))];
const METADATA_RESPONSE: &[Field] = &[
    since(3, Fixed(4)),
    all(List(&[I32, TEXT, I32, since(1, Text)])),
    since(2, Text),
    since(1, Fixed(4)),
    all(List(&[
        ERROR,
        TOPIC,
        since(10, TopicId),
        since(1, Fixed(1)),
        all(List(&[ERROR, I32, I32, since(7, Fixed(4)), NUMBERS, NUMBERS, since(5, Plain(&[I32]))])),
        since(8, Fixed(4)),
    ])),
    within(8, 10, Fixed(4)),
    since(13, Error),
];

const OFFSET_COMMIT_REQUEST: &[Field] = &[
    GROUP,
    since(1, Fixed(4)),
    since(1, Text),
    since(7, Text),
    within(2, 4, Fixed(8)),
    all(List(&[
        until(9, Topic),
        since(10, TopicId),
        all(List(&[I32, I64, since(6, Fixed(4)), within(1, 1, Fixed(8)), TEXT])),
    ])),
];
const OFFSET_COMMIT_RESPONSE: &[Field] =
    &[since(3, Fixed(4)), all(List(&[until(9, Text), since(10, Fixed(16)), all(List(&[I32, ERROR]))]))];

const OFFSET_FETCH_REQUEST: &[Field] = &[
    until(7, Group),
    until(7, List(&[TOPIC, NUMBERS])),
    since(
        8,
        List(&[GROUP, since(9, Text), since(9, Fixed(4)), all(List(&[until(9, Topic), since(10, TopicId), NUMBERS]))]),
    ),
    since(7, Fixed(1)),
];
const OFFSET_FETCH_RESPONSE: &[Field] = &[
    since(3, Fixed(4)),
    until(7, List(&[TEXT, all(List(&[I32, I64, since(5, Fixed(4)), TEXT, ERROR]))])),
    within(2, 7, Error),
    since(
        8,
        List(&[
            TEXT,
            all(List(&[until(9, Text), since(10, Fixed(16)), all(List(&[I32, I64, I32, TEXT, ERROR]))])),
            ERROR,
        ]),
    ),
];

const FIND_COORDINATOR_REQUEST: &[Field] = &[until(3, Text), since(1, Fixed(1)), since(4, Plain(&[TEXT]))];
const FIND_COORDINATOR_RESPONSE: &[Field] = &[
    since(1, Fixed(4)),
    until(3, Error),
    within(1, 3, Text),
    until(3, Fixed(4)),
    until(3, Text),
    until(3, Fixed(4)),
    since(4, List(&[TEXT, I32, TEXT, I32, ERROR, TEXT])),
];

const JOIN_GROUP_REQUEST: &[Field] =
    &[GROUP, I32, since(1, Fixed(4)), TEXT, since(5, Text), TEXT, all(List(&[TEXT, BLOB])), since(8, Text)];
const HEARTBEAT_REQUEST: &[Field] = &[GROUP, I32, TEXT, since(3, Text)];
const LEAVE_GROUP_REQUEST: &[Field] = &[GROUP, until(2, Text), since(3, List(&[TEXT, TEXT, since(5, Text)]))];
const LEAVE_GROUP_RESPONSE: &[Field] = &[since(1, Fixed(4)), ERROR, since(3, List(&[TEXT, TEXT, ERROR]))];
const SYNC_GROUP_REQUEST: &[Field] =
    &[GROUP, I32, TEXT, since(3, Text), since(5, Text), since(5, Text), all(List(&[TEXT, BLOB]))];

const API_VERSIONS_REQUEST: &[Field] = &[since(3, Text), since(3, Text)];
const API_VERSIONS_RESPONSE: &[Field] = &[ERROR, all(List(&[I16, I16, I16])), since(1, Fixed(4))];

const CREATE_TOPICS_REQUEST: &[Field] =
    &[all(List(&[TOPIC, I32, I16, all(List(&[I32, NUMBERS])), all(List(&[TEXT, TEXT]))])), I32, since(1, Fixed(1))];
const CREATE_TOPICS_RESPONSE: &[Field] = &[
    since(2, Fixed(4)),
    all(List(&[
        TOPIC,
        since(7, TopicId),
        ERROR,
        since(1, Text),
        since(5, Fixed(4)),
        since(5, Fixed(2)),
        since(5, List(&[TEXT, TEXT, I8, I8, I8])),
    ])),
];
const DELETE_TOPICS_REQUEST: &[Field] = &[since(6, List(&[TOPIC, all(Fixed(16))])), until(5, Plain(&[TOPIC])), I32];
const DELETE_TOPICS_RESPONSE: &[Field] =
    &[since(1, Fixed(4)), all(List(&[TEXT, since(6, Fixed(16)), ERROR, since(5, Text)]))];

const INIT_PRODUCER_REQUEST: &[Field] =
    &[TEXT, I32, since(3, Fixed(8)), since(3, Fixed(2)), since(6, Fixed(1)), since(6, Fixed(1))];
const INIT_PRODUCER_RESPONSE: &[Field] = &[I32, ERROR, I64, I16, since(6, Fixed(8)), since(6, Fixed(2))];

const ADD_PARTITIONS_RESPONSE: &[Field] = &[
    I32,
    since(4, Error),
    since(4, List(&[TEXT, all(List(&[TEXT, all(List(&[I32, ERROR]))]))])),
    until(3, List(&[TEXT, all(List(&[I32, ERROR]))])),
];

const SHARE_FETCH_REQUEST: &[Field] =
    &[GROUP, TEXT, I32, all(MaxWait), all(MinBytes), I32, since(1, Fixed(8)), all(List(&[all(TopicId), all(Stop)]))];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_places_in_the_table() {
        for (key, name) in [
            (PRODUCE, "Produce"),
            (1, "Fetch"),
            (3, "Metadata"),
            (CONTROLLED_SHUTDOWN, "ControlledShutdown"),
            (JOIN_GROUP, "JoinGroup"),
            (SYNC_GROUP, "SyncGroup"),
            (SASL_HANDSHAKE, "SaslHandshake"),
            (API_VERSIONS, "ApiVersions"),
            (36, "SaslAuthenticate"),
            (50, "DescribeUserScramCredentials"),
            (68, "ConsumerGroupHeartbeat"),
            (78, "ShareFetch"),
            (92, "DeleteShareGroupOffsets"),
            (93, "unknown"),
            (-1, "unknown"),
        ] {
            assert_eq!(Call::new(key, 0).name(), name);
        }
        assert!(Call::new(1, 18).known().is_some() && Call::new(1, 19).known().is_none());
        assert!(Call::new(1, 19).is_flexible() && !Call::new(1, 11).is_flexible());
    }

    /// What secrets pass in is not read at all.
    #[test]
    fn nothing_is_read_of_what_holds_secrets() {
        for key in [SASL_HANDSHAKE, 36, 38, 39, 40, 41, 51] {
            assert!(Call::new(key, 0).api.is_some_and(|api| api.request.is_empty()), "{key}");
        }
    }
}
