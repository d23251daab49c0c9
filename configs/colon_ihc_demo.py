"""What `make demo` trains: the networks of colon_ihc, from the pretrained model, for a short while.

The steps and the rates of the demo are here and nowhere else. It is meant for
--init_from=pretrained:colon_ihc; from random parameters, train colon_ihc.
"""

from ml_collections import ConfigDict

from configs import colon_ihc


def get_config() -> ConfigDict:
    config = colon_ihc.get_config()
    config.score.num_steps = 200
    config.score.optimizer.learning_rate = 2e-4
    config.score.optimizer.warmup_steps = 20

    config.msal.num_steps = 100
    for objective in ("generator_optimizer", "discriminator_optimizer"):
        config.msal.relativistic[objective].learning_rate = 2e-4
    return config
