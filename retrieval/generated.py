"""Questions for a calibration when nobody has labelled any: made from the passages, and a list about everyday matters.

Less reliable than labelled ones, and every result says so: a question made from a passage's own words lies closer to it
than a user's does, and one of the everyday questions may happen to be answered by these documents.
"""

import random
import re
from collections.abc import Iterator

import numpy as np

from retrieval.passages import Passage, Scope
from retrieval.questions import LabelledQuestion
from retrieval.store import Store

COUNT = 60  # covered questions
_WORDS = 4  # of a sentence that a made question keeps: people do not quote what they look for
_SENTENCE = re.compile(r"(?<=[.!?:;])\s+|\n+")
_WORD = re.compile(r"[^\W\d_][\w'-]{2,}")
_COMMON = re.compile(
    r"the|and|for|are|was|were|that|this|these|those|with|from|not|but|you|your|his|her|"
    r"its|they|their|them|then|than|has|have|had|can|could|will|would|may|might|must|"
    r"shall|should|into|onto|over|under|also|such|only|other|more|most|any|all|each|been|"
    r"being|there|here|when|where|which|who|whom|what|how|why|about|after|before|between|"
    r"during|both|does|did|our|out|per|via|one|two"
)
_FORMS = ("What about {}?", "How is it with {}?", "What should I know about {}?", "Can you tell me about {}?")


def covered_questions(
    store: Store, dimensions: int, scope: Scope, knowledge: str, *, count: int = COUNT, seed: int = 0
) -> list[LabelledQuestion]:
    """One question about some sentence of each of `count` passages spread over the documents that `scope` may see;
    fewer if there are fewer sentences. Raises UnknownKnowledge."""
    chance = random.Random(seed)  # noqa: S311  # repeatable is the point; no secrets
    questions: dict[str, LabelledQuestion] = {}
    for passage in _spread(store, dimensions, scope, knowledge, 3 * count, chance):
        if len(questions) == count:
            break
        if words := _gist(passage.text, chance):
            text = chance.choice(_FORMS).format(words)
            questions[text] = LabelledQuestion(text, passage.source)
    return list(questions.values())


def _spread(
    store: Store, dimensions: int, scope: Scope, knowledge: str, most: int, chance: random.Random
) -> Iterator[Passage]:
    """Passages of documents in turn: of each the one nearest to a random direction, which is any of them."""
    sources = [info.source for info in store.documents(scope.tenant, knowledge) if info.groups & scope.groups]
    directions = np.random.default_rng(chance.getrandbits(32))
    for at in range(most if sources else 0):
        if at % len(sources) == 0:
            chance.shuffle(sources)
        direction = directions.standard_normal(dimensions).astype(np.float32)
        where = {"source": sources[at % len(sources)]}
        yield from store.query(scope.tenant, knowledge, direction, 1, scope.groups, where)


def _gist(text: str, chance: random.Random) -> str:
    """Some telling words of one of the text's sentences, in their order; "" if it has no sentence with enough."""
    sentences = [
        [word for word in _WORD.findall(part) if not _COMMON.fullmatch(word.lower())] for part in _SENTENCE.split(text)
    ]
    telling = [words for words in sentences if len(set(words)) >= _WORDS]
    if not telling:
        return ""
    words = chance.choice(telling)
    kept = sorted(chance.sample(range(len(words)), _WORDS))
    return " ".join(words[index].lower() for index in kept)


EVERYDAY: tuple[str, ...] = (
    "How long do I boil an egg so that the yolk stays soft?",
    "What is the capital of Mongolia?",
    "Who painted the ceiling of the Sistine Chapel?",
    "How do I get red wine out of a carpet?",
    "Which planet has the most moons?",
    "How often should I water a cactus?",
    "What is a good name for a tabby cat?",
    "How do I change the tyre of a bicycle?",
    "When did the Berlin Wall fall?",
    "What is the offside rule in football?",
    "How do I fold a paper crane?",
    "Which key signature has four sharps?",
    "How deep is the Mariana Trench?",
    "What do hedgehogs eat in winter?",
    "How do I prune roses?",
    "Who wrote Pride and Prejudice?",
    "Why is the sky blue?",
    "How many strings does a cello have?",
    "What is the boiling point of water on Mount Everest?",
    "How do I teach a dog to sit?",
    "Which wine goes with grilled salmon?",
    "How do volcanoes form?",
    "What are the rules of chess for castling?",
    "How do I knit a scarf?",
    "Who won the first football world cup?",
    "How far is the moon from the earth?",
    "What is the recipe for pancakes?",
    "How do I treat a bee sting?",
    "Which language is spoken in Brazil?",
    "How do I tie a bowline knot?",
    "When is the best time to see the northern lights?",
    "What is the difference between a crocodile and an alligator?",
    "How do I remove a splinter?",
    "Who composed The Four Seasons?",
    "How long does it take to sail across the Atlantic?",
    "What is the longest river in Asia?",
    "How do I make sourdough starter?",
    "Why do cats purr?",
    "How do I solve a Rubik's cube?",
    "Which vitamins are in spinach?",
    "How do I fix a squeaky door hinge?",
    "What causes a rainbow?",
    "How many players are there in a rugby team?",
    "What is the plot of Hamlet?",
    "How do I build a bird house?",
    "Which trees lose their needles in autumn?",
    "How do I improve my backhand in tennis?",
    "What is the smallest country in the world?",
    "How do bees make honey?",
    "How do I descale a kettle?",
    "Who was the first woman in space?",
    "What should I pack for a weekend in the mountains?",
    "How do I play a barre chord on the guitar?",
    "Which constellations can I see in summer?",
    "How do I ripen avocados faster?",
    "What is the story of the Trojan horse?",
    "How do I whistle with two fingers?",
    "Why do leaves change their colour?",
    "How do I grow tomatoes on a balcony?",
    "What does an octave mean in music?",
)


def uncovered_questions() -> list[LabelledQuestion]:
    """The everyday ones."""
    return [LabelledQuestion(text, None) for text in EVERYDAY]
