"""The settings of SGM."""

from wmgm_jax.config.checks import check_score
from wmgm_jax.config.registry import SystemSettings, register_settings
from wmgm_jax.config.sections import score

register_settings(
    "sgm",
    SystemSettings(
        label="SGM",
        sections=lambda: {"score": score((1, 2, 2, 4, 4), attention_levels=(3, 4))},
        score_sections=("score",),
        check=lambda config: check_score(config, "score"),
    ),
)
