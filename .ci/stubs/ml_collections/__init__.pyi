# What this project uses of ml_collections, which brings no types of its own. Inferred from its
# source, a setting is one of whatever the settings of any config may be.
from . import config_dict as config_dict
from . import config_flags as config_flags
from .config_dict import ConfigDict as ConfigDict
