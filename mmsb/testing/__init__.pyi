# What mmsb.testing offers, for type checkers: at run time each name is imported when it is used (__init__.py).

from mmsb.testing.device_contract import DeviceContract as DeviceContract
from mmsb.testing.engine import Trial as Trial
from mmsb.testing.eventlog import EventLog as EventLog
from mmsb.testing.plugin_contract import PluginContract as PluginContract
from mmsb.testing.policy_contract import PolicyContract as PolicyContract
from mmsb.testing.semiring_contract import SemiringContract as SemiringContract
