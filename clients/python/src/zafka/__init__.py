"""Send messages to Kafka through a zafka relay, and be told where they are in the log.

with Producer("tcp://127.0.0.1:5558", topic="orders") as producer:
    future = producer.send(b'{"order": 17}', key=b"customer-7")
    print(future.result(timeout=10).offset)
"""

from ._aio import AsyncProducer
from ._answers import Ack, Callback
from ._errors import ProtocolError, Refused, SendError, Unanswered, ZafkaError
from ._producer import Producer

__all__ = [
    "Ack",
    "AsyncProducer",
    "Callback",
    "Producer",
    "ProtocolError",
    "Refused",
    "SendError",
    "Unanswered",
    "ZafkaError",
]
