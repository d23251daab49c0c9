"""The settings of WSGM."""

from typing import Any

from ml_collections import ConfigDict

from wmgm_jax.config.checks import check_score
from wmgm_jax.config.registry import SystemSettings, register_settings
from wmgm_jax.config.sections import score


def _sections() -> dict[str, Any]:
    return {
        "score": score((1, 2, 3, 4), attention_levels=(3,)),
        "details": score((1, 2, 3, 4), attention_levels=(3,)),  # of every scale
    }


def _check(config: ConfigDict) -> None:
    for section in _sections():
        check_score(config, section)


register_settings(
    "wsgm",
    SystemSettings(
        label="WSGM",
        sections=_sections,
        score_sections=("score", "details"),
        check=_check,
    ),
)
