"""Which dtype policy a training uses on this machine."""

from pathlib import Path


def policy(wanted: str) -> str:
    """Resolve a recipe's ``train.precision``.

    Args:
        wanted: ``auto``, ``float32``, ``mixed_float16`` or ``mixed_bfloat16``.

    Returns:
        A Keras dtype policy. For ``auto``: mixed_bfloat16 on GPUs of compute capability 8.0 and up and on processors
        with bfloat16 instructions, mixed_float16 on GPUs from 7.0, else float32. On processors float16 is slower than
        float32.
    """
    if wanted != "auto":
        return wanted
    capability = _gpu_capability()
    if capability is not None:
        return "mixed_bfloat16" if capability >= (8, 0) else "mixed_float16" if capability >= (7, 0) else "float32"
    return "mixed_bfloat16" if _processor_has_bfloat16() else "float32"


def _gpu_capability() -> tuple[int, int] | None:
    """Lowest compute capability of the GPUs; None without one."""
    import keras

    if keras.backend.backend() != "tensorflow":
        return None
    import tensorflow as tf

    found = [tf.config.experimental.get_device_details(d) for d in tf.config.list_physical_devices("GPU")]
    known = [d["compute_capability"] for d in found if "compute_capability" in d]
    return min(known) if known else None


def _processor_has_bfloat16() -> bool:
    try:
        flags = Path("/proc/cpuinfo").read_text().split()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags
