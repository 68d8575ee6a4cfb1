"""Summaries made of the document's own sentences: what a model must beat, and the best that copying could do.

`lead` and `textrank` are baselines that know no reference; `oracle` knows it, and bounds from below what copying whole
sentences can reach (a greedy choice may miss the best one). All take a document as sentences (`rouge.split_sentences`) and
give sentences in the document's order, at most n, or as many as a number of words takes (`to_length`); all of them where the
document has fewer. No model, no corpus.

    >>> sentences = ["The sun rose.", "A dog barked.", "A dog and a cat fought.", "The cat ran.", "It rained."]
    >>> lead(sentences, 1)
    ['The sun rose.']
    >>> textrank(sentences, 1)
    ['A dog and a cat fought.']
    >>> oracle(sentences, "A dog barked and it rained.", 2, "en")
    ['A dog barked.', 'It rained.']
"""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from math import log

from asum_lib.errors import InputError
from asum_lib.measure.pairs import texts_of
from asum_lib.measure.rouge import tokenize
from asum_lib.measure.summaries import words

DAMPING = 0.85  # of PageRank and of TextRank


def lead(sentences: Sequence[str], n: int) -> list[str]:
    """The first n sentences."""
    return texts_of(sentences, "sentence")[: _count(n)]


def textrank(sentences: Sequence[str], n: int) -> list[str]:
    """The n sentences of the highest `textrank_scores`; of equals, the earlier."""
    if _count(n) >= len(texts_of(sentences, "sentence")):
        return list(sentences)
    return [sentences[i] for i in sorted(textrank_order(sentences)[:n])]


def textrank_order(sentences: Sequence[str]) -> list[int]:
    """The positions of all sentences, from 0, those of the highest `textrank_scores` first; of equals, the earlier."""
    rank = textrank_scores(sentences)
    return sorted(range(len(sentences)), key=lambda i: (-round(rank[i], 7), i))


def to_length(sentences: Sequence[str], order: Sequence[int], n_words: int) -> list[str]:
    """The sentences at the first positions of `order` that hold at least `n_words` words together, or all; in the document's order.

    >>> to_length(["One two.", "Three.", "Four five."], [2, 0, 1], 3)
    ['One two.', 'Four five.']
    """
    taken, found = [], 0
    for position in order:
        if found >= n_words:
            break
        taken.append(position)
        found += len(words(sentences[position]))
    return [sentences[position] for position in sorted(taken)]


def textrank_scores(sentences: Sequence[str]) -> list[float]:
    """The PageRank of each sentence in the graph of shared words (Mihalcea and Tarau 2004, TextRank: Bringing Order into Text); they sum to 1.

    The weight between two sentences is the number of distinct words that both hold, divided by the sum of the logarithms of
    their lengths in words; 0 where that sum is 0 (two sentences of one word). Words are `unicode` tokens, none left out.
    """
    import networkx

    tokens = [words(sentence) for sentence in texts_of(sentences, "sentence")]
    types = [set(words) for words in tokens]
    graph = networkx.Graph()
    graph.add_nodes_from(range(len(sentences)))
    for i in range(len(sentences)):
        for j in range(i):
            shared = len(types[i] & types[j])
            if shared and (lengths := log(len(tokens[i])) + log(len(tokens[j]))) > 0:
                graph.add_edge(i, j, weight=shared / lengths)
    rank = networkx.pagerank(graph, alpha=DAMPING, max_iter=1_000, tol=1e-9)
    return [rank[i] for i in range(len(sentences))]


def oracle(sentences: Sequence[str], reference: str, n_max: int, language: str) -> list[str]:
    """At most n_max sentences, chosen greedily for the mean of ROUGE-1 and ROUGE-2 F1 of their join (Nallapati et al. 2017).

    At each step the sentence that raises that mean most is added, the earliest of equals; it stops where none raises it, so
    the list is empty where no word is shared. ROUGE as `rouge.score` has it for the language.
    """
    return [sentences[i] for i in oracle_positions(sentences, reference, n_max, language)]


def oracle_positions(sentences: Sequence[str], reference: str, n_max: int, language: str) -> list[int]:
    """The positions, from 0 and ascending, of the sentences that `oracle` chooses."""
    tokens = [tokenize(sentence, language) for sentence in texts_of(sentences, "sentence")]
    wanted = [_ngram_counts(tokenize(reference, language), n) for n in (1, 2)]
    chosen: list[int] = []
    best = 0.0
    while len(chosen) < min(_count(n_max), len(sentences)):
        tried = [(_mean_f1(tokens, sorted([*chosen, i]), wanted), -i) for i in range(len(sentences)) if i not in chosen]
        score, position = max(tried)
        if score <= best:
            break
        best = score
        chosen.append(-position)
    return sorted(chosen)


def _count(n: int) -> int:
    if n < 1:
        raise InputError(f"a summary of {n} sentences: the number must be at least 1")
    return n


def _ngram_counts(words: list[str], n: int) -> Counter:
    return Counter(words if n == 1 else pairwise(words))


def _mean_f1(tokens: list[list[str]], positions: list[int], wanted: list[Counter]) -> float:
    words = [word for i in positions for word in tokens[i]]
    total = 0.0
    for n, reference in enumerate(wanted, start=1):
        own = _ngram_counts(words, n)
        sizes = own.total() + reference.total()
        total += 2 * sum(min(count, reference[ngram]) for ngram, count in own.items() if ngram in reference) / sizes if sizes else 0.0
    return total / len(wanted)
