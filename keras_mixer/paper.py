"""What the paper's tables say of the models; each number stands here and nowhere else."""

from typing import Any

# Paper Table 1; S/8 is released as a checkpoint only. Order: P, N, C, D_S, D_C.
VARIANTS: dict[str, dict[str, Any]] = {
    "s8": dict(patch_size=8, num_blocks=8, hidden_dim=512, tokens_mlp_dim=256, channels_mlp_dim=2048),
    "s16": dict(patch_size=16, num_blocks=8, hidden_dim=512, tokens_mlp_dim=256, channels_mlp_dim=2048),
    "s32": dict(patch_size=32, num_blocks=8, hidden_dim=512, tokens_mlp_dim=256, channels_mlp_dim=2048),
    "b16": dict(patch_size=16, num_blocks=12, hidden_dim=768, tokens_mlp_dim=384, channels_mlp_dim=3072),
    "b32": dict(patch_size=32, num_blocks=12, hidden_dim=768, tokens_mlp_dim=384, channels_mlp_dim=3072),
    "l16": dict(patch_size=16, num_blocks=24, hidden_dim=1024, tokens_mlp_dim=512, channels_mlp_dim=4096),
    "l32": dict(patch_size=32, num_blocks=24, hidden_dim=1024, tokens_mlp_dim=512, channels_mlp_dim=4096),
    "h14": dict(patch_size=14, num_blocks=32, hidden_dim=1280, tokens_mlp_dim=640, channels_mlp_dim=5120),
}
# Not the paper's: for small images such as digits, 75,530 parameters at 16 px.
TINY: dict[str, Any] = dict(patch_size=4, num_blocks=4, hidden_dim=64, tokens_mlp_dim=32, channels_mlp_dim=128)
MODELS = {"tiny": TINY, **VARIANTS}
