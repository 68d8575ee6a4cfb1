"""Pre-training of a mini text model on the source domains: `asum pretrain t5-mini`, `asum pretrain mbart-mini`.

Two batches of three are documents of the source with their summaries. The third is text to restore: the model writes out a text
in which spans are masked, mBART as it was pre-trained (Liu et al. 2020), T5 by the objective of that kind that its authors compare
(MASS-style, Raffel et al. 2020, section 3.3.1), with sentinels for masks. Their own choice, to write the missing spans alone, was
tried first: a model this small then did not learn to copy a name or a number within the steps at hand. That text is of both domains,
paragraphs and summaries by themselves: as a real model has read the words of any domain, but which summary belongs to which
document of the target it is never shown.
A run saves its whole state every 500 steps in the cache folder and goes on from there when started again.
"""

import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from asum_lib import files
from asum_lib.corpora.texts import TextCorpus, load_texts
from asum_lib.models import summarize, text_ladder
from asum_lib.paths import cache
from asum_lib.training.pretrain import restore_state, save_state

BATCH_SIZE = 16
SAVE_EVERY = 500
EVALUATE_EVERY = 1_000
EVALUATED = 96  # dev documents
NOISE_EVERY = 3
NOISE_SHARE = 0.3  # of the tokens
MEAN_SPAN_TOKENS = 3.0
RESTORED_PARAGRAPHS = 2
RESTORED_SUMMARIES = 0.5  # share of the texts to restore that are summaries
POOL = 16  # batches whose texts are sorted by length together
TOKENIZER_TEXTS = 4_000  # first documents of each corpus, in whose texts and summaries the pieces are found


def pretrain(
    model: str,
    folder: Path | None = None,
    steps: int | None = None,
    seed: int = 0,
    progress: Callable[[str], None] = print,
    replace: bool = False,
) -> Path:
    """Train a rung from scratch and save it with its tokenizer in `folder`; returns the folder.

    `steps` shortens the run; what is there is treated as by `pretrain.pretrain`.
    """
    import torch

    replace = replace or folder is None
    rung, folder = text_ladder.RUNGS[model], folder or text_ladder.checkpoint(model)
    files.refuse_filled(folder, replace)
    steps = steps or rung.steps
    torch.manual_seed(seed)
    corpora = [load_texts(name, "train") for name in rung.corpora]
    read = [*corpora, *(load_texts(name.removesuffix("-source"), "train") for name in rung.corpora)]
    tokens = text_ladder.tokenizer(model, list(_texts(read)))
    network = text_ladder.untrained(model, tokens)
    optimizer = torch.optim.AdamW(network.parameters(), lr=rung.peak_lr, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=rung.peak_lr, total_steps=steps, pct_start=0.1)
    objects = {"model": network, "optimizer": optimizer, "schedule": schedule}

    digest = "-".join(corpus.fingerprint[:8] for corpus in read)
    state_path = cache() / "pretrain" / f"{model}-mini-{steps}-s{seed}-{digest}.pt"
    done = restore_state(state_path, objects)
    batches = _mixed(model, tokens, corpora, read, seed)
    started, losses = time.monotonic(), {"summary": [], "text": []}
    for step, (kind, sources, targets) in itertools.islice(enumerate(batches), done, steps):
        network.train()
        ids, mask = summarize.pad(sources, tokens.pad_token_id)
        labels, _ = summarize.pad(targets, -100)
        loss = network(input_ids=ids, attention_mask=mask, labels=labels, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        losses[kind].append(loss.item())
        if (step + 1) % 100 == 0:
            pace_s = (time.monotonic() - started) / (step + 1 - done)
            means = ", ".join(f"{name} {np.mean(values[-50:]):.3f}" for name, values in losses.items() if values)
            progress(f"{model}-mini step {step + 1}/{steps} loss of {means}; {pace_s:.3f} s a step, {pace_s * (steps - step - 1) / 60:.0f} min left")
        if (step + 1) % SAVE_EVERY == 0:
            save_state(state_path, objects, step + 1)
        if (step + 1) % EVALUATE_EVERY == 0 or step + 1 == steps:
            for name in itertools.chain.from_iterable((source, source.removesuffix("-source")) for source in rung.corpora):
                progress(f"{model}-mini step {step + 1} {name} dev: {_look(model, network, tokens, name)}")

    with files.folder_aside(folder, replace) as made:
        network.save_pretrained(made)
        tokens.save_pretrained(made)
    state_path.unlink(missing_ok=True)
    return folder


def _texts(corpora: list[TextCorpus]) -> Iterator[str]:
    yield from summarize.PREFIX.values()
    for corpus in corpora:
        for document in corpus.documents[:TOKENIZER_TEXTS]:
            yield " ".join(document.paragraphs)
            yield document.reference


def _mixed(
    model: str, tokens, corpora: list[TextCorpus], read: list[TextCorpus], seed: int
) -> Iterator[tuple[str, list[list[int]], list[list[int]]]]:
    """(kind, sources, targets) batch by batch: summaries of `corpora`, text to restore of what was `read`, each in turn."""
    sources, targets, orders = [], [], []
    for corpus in corpora:
        speak(tokens, corpus.language)
        sources.append(summarize.encode(tokens, model, [document.text for document in corpus.documents], text_ladder.MAX_POSITIONS))
        targets.append(summarize.encode_summaries(tokens, [document.reference for document in corpus.documents]))
        orders.append(_endless([len(source) for source in sources[-1]], seed))
    for step in itertools.count():
        if step % NOISE_EVERY == NOISE_EVERY - 1:
            rng = np.random.default_rng([seed, step])
            corpus = read[step // NOISE_EVERY % len(read)]
            items = rng.choice(len(corpus.documents), BATCH_SIZE, replace=False)
            yield "text", *_noisy(model, tokens, corpus, items, rng)
        else:
            number = (step - step // NOISE_EVERY) % len(corpora)
            items = next(orders[number])
            yield "summary", [sources[number][item] for item in items], [targets[number][item] for item in items]


def speak(tokens, language: str) -> None:
    """Tell a tokenizer with languages which one comes."""
    if hasattr(tokens, "src_lang"):
        tokens.src_lang = tokens.tgt_lang = text_ladder.LANGUAGE_CODES[language]


def _endless(lengths: list[int], seed: int) -> Iterator[np.ndarray]:
    """Batches of items of like length, every item once an epoch."""
    lengths = np.array(lengths)
    for epoch in itertools.count():
        rng = np.random.default_rng([seed, epoch])
        order = rng.permutation(len(lengths))
        batches = []
        for start in range(0, len(order), POOL * BATCH_SIZE):
            pool = order[start : start + POOL * BATCH_SIZE]
            pool = pool[np.argsort(lengths[pool], kind="stable")]
            batches += [pool[at : at + BATCH_SIZE] for at in range(0, len(pool), BATCH_SIZE)]
        for number in rng.permutation(len(batches)):
            yield batches[number]


def _noisy(model: str, tokens, corpus: TextCorpus, items, rng: np.random.Generator) -> tuple[list[list[int]], list[list[int]]]:
    """Two neighbouring paragraphs of each document, or its summary, with spans taken out, and what is to be written for them."""
    speak(tokens, corpus.language)
    sources, targets = [], []
    for item in items:
        document = corpus.documents[item]
        paragraphs = document.summary if rng.random() < RESTORED_SUMMARIES else document.paragraphs
        first = int(rng.integers(max(1, len(paragraphs) - RESTORED_PARAGRAPHS + 1)))
        whole = tokens(" ".join(paragraphs[first : first + RESTORED_PARAGRAPHS])).input_ids
        source, target = (corrupt if model == "t5" else mask_spans)(whole, tokens, rng, NOISE_SHARE)
        sources.append(source)
        targets.append(target)
    return sources, targets


def corrupt(ids: list[int], tokens, rng: np.random.Generator, share: float) -> tuple[list[int], list[int]]:
    """T5's: (text with sentinels for spans, the text); both end with the end token."""
    sentinels = [tokens.convert_tokens_to_ids(f"<extra_id_{number}>") for number in range(text_ladder.SENTINELS)]
    source, position = [], 0
    for sentinel, (start, stop) in zip(sentinels, _spans(len(ids) - 1, rng, share), strict=False):
        source += [*ids[position:start], sentinel]
        position = stop
    return source + ids[position:], list(ids)


def mask_spans(ids: list[int], tokens, rng: np.random.Generator, share: float) -> tuple[list[int], list[int]]:
    """mBART's text infilling: (text with one mask for each span, the text). The language's token in front stays."""
    source, position = [ids[0]], 1
    for start, stop in _spans(len(ids) - 2, rng, share):
        source += [*ids[position : start + 1], tokens.mask_token_id]
        position = stop + 1
    return source + ids[position:], list(ids)


def _spans(length: int, rng: np.random.Generator, share: float) -> list[tuple[int, int]]:
    """Disjoint spans (start, stop) of three tokens on average within `length`, in order, at least one token between two."""
    wanted, spans, position = max(1, round(share * length / MEAN_SPAN_TOKENS)), [], 0
    gaps = rng.multinomial(max(0, length - round(share * length) - wanted), np.full(wanted + 1, 1 / (wanted + 1)))
    for gap in gaps[:-1]:
        start = position + int(gap)
        stop = min(length, start + 1 + int(rng.poisson(MEAN_SPAN_TOKENS - 1)))
        if start >= length:
            break
        spans.append((start, stop))
        position = stop + 1
    return spans


def _look(model: str, network, tokens, name: str) -> str:
    """ROUGE-1 and ROUGE-2 on the first dev documents."""
    from asum_lib.measure import rouge

    dev = load_texts(name, "dev")
    documents = dev.documents[:EVALUATED]
    speak(tokens, dev.language)
    sources = summarize.encode(tokens, model, [document.text for document in documents], text_ladder.MAX_POSITIONS)
    written = summarize.summarize(network, tokens, sources, dev.language)
    scores = rouge.score([document.reference for document in documents], written, dev.language)
    return ", ".join(f"{kind} {100 * scores[kind].mean():.1f}" for kind in ("rouge1", "rouge2"))
