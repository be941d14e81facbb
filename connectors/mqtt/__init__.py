"""MQTT brokers, by paho: JSON by mapping rules, and Sparkplug B."""

from connectors.mqtt.json_rules import JsonRules
from connectors.mqtt.session import MqttSession
from connectors.mqtt.sparkplug import SparkplugHost

__all__ = ["JsonRules", "MqttSession", "SparkplugHost"]
