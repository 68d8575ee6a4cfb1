"""Greedy transcription of a feature matrix in batches."""

import numpy as np


def transcribe(model, tokenizer, features: np.ndarray, batch_size: int = 64, options: dict | None = None) -> list[str]:
    """Raw hypotheses for log-mel `features` of shape (utterances, mel bins, frames), in their order.

    Greedy, no timestamps, no fallback. `options` go to `model.generate`. The model is put in evaluation mode and left there.
    """
    import torch

    model.eval()
    dtype = next(parameter.dtype for parameter in model.parameters() if parameter.is_floating_point())
    hypotheses: list[str] = []
    with torch.inference_mode():
        for start in range(0, len(features), batch_size):
            batch = torch.from_numpy(np.array(features[start : start + batch_size])).to(model.device, dtype)
            tokens = model.generate(input_features=batch, do_sample=False, num_beams=1, **(options or {}))
            hypotheses += tokenizer.batch_decode(tokens, skip_special_tokens=True)
    return [hypothesis.strip() for hypothesis in hypotheses]
