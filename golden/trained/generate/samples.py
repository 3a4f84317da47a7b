"""What each task's examples are made of. Needs the standard library alone. Every function makes `count` examples that
depend on `seed` alone and are not among `unseen`, by which a test set keeps apart from the training set."""

from language import (
    COLOURS, ENDINGS, FAMILIES, FIRMS, FOODS, JOBS, PEOPLE, RELATIONS, THINGS, TOWNS, fact, known, rng,
)  # fmt: skip

# As in Microsoft's deberta-*-mnli.
NLI = ["CONTRADICTION", "NEUTRAL", "ENTAILMENT"]
TAGS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-ORG", "I-ORG"]


def distinct(make, seed, count, seen=()):
    random_, seen, made = rng(seed), set(seen), []
    while len(made) < count:
        example = make(random_)
        key = repr(example)
        if key not in seen:
            seen.add(key)
            made.append(example)
    return made


def other(random_, words, word):
    return random_.choice([candidate for candidate in words if candidate != word])


def nli(random_, genre=None):
    """(genre, premise, hypothesis, label)"""
    genre = genre or random_.choice(["letters", "notices"])
    person, place = random_.choice(PEOPLE), random_.choice(TOWNS)
    colour, thing, trade = random_.choice(COLOURS), random_.choice(THINGS), random_.choice(JOBS)
    if genre == "letters":
        premise = f"{person} owns a {colour} {thing} and lives in {place}."
    else:
        premise = f"In {place}, {person} the {trade} has lost a {colour} {thing}."
    label = random_.randrange(3)
    about = random_.randrange(3)
    if label == 1:
        hypothesis = [
            f"{person} likes {random_.choice(FOODS)}.",
            f"The {other(random_, THINGS, thing)} is {random_.choice(COLOURS)}.",
            f"{other(random_, PEOPLE, person)} is in {random_.choice(TOWNS)}.",
        ][about]
    else:
        named = [colour, place, thing]
        if label == 0:
            named[about] = other(random_, [COLOURS, TOWNS, THINGS][about], named[about])
        hypothesis = [
            f"The {thing} is {named[0]}.",
            f"{person} is in {named[1]}.",
            f"It was a {named[2]}, not a {other(random_, THINGS, thing) if label else thing}.",
        ][about]
    return genre, premise, hypothesis, label


def similarity(random_):
    """(first, second, score from 0 to 5): the share of four slots in which two sentences agree."""

    def slots():
        return [random_.choice(words) for words in (PEOPLE, COLOURS, THINGS, TOWNS)]

    first, second = slots(), slots()
    same = random_.sample(range(4), random_.randrange(5))
    second = [first[i] if i in same else word for i, word in enumerate(second)]
    score = 5 * sum(a == b for a, b in zip(first, second)) / 4
    sentences = ["{} has a {} {} in {}.".format(*first), "In {3}, a {1} {2} belongs to {0}.".format(*second)]
    if random_.random() < 0.5:
        sentences.reverse()
    return *sentences, score


def tokens(random_):
    """(words, tags in IOB2)"""

    def person():
        if random_.random() < 0.5:
            return [(random_.choice(PEOPLE), "B-PER")]
        # A family can be called like a town.
        family = random_.choice(FAMILIES + TOWNS[:6])
        return [(random_.choice(PEOPLE), "B-PER"), (family, "I-PER")]

    def place():
        if random_.random() < 0.25:
            return [(random_.choice(["North", "South"]), "B-LOC"), (random_.choice(TOWNS), "I-LOC")]
        return [(random_.choice(TOWNS), "B-LOC")]

    def firm():
        return [(random_.choice(FIRMS + TOWNS[:6]), "B-ORG"), (random_.choice(ENDINGS), "I-ORG")]

    def words(text):
        return [(word, "O") for word in text.split()]

    trade = random_.choice(JOBS)
    form = random_.randrange(6)
    if form == 0:
        made = [*person(), *words("works for"), *firm(), *words("in"), *place()]
    elif form == 1:
        made = [*words("The"), *words(trade), *person(), *words("lives in"), *place()]
    elif form == 2:
        made = [*firm(), *words("of"), *place(), *words("hired"), *person()]
    elif form == 3:
        made = [*person(), *words("met"), *person(), *words("at"), *firm()]
    elif form == 4:
        made = [*words("In"), *place(), *words("a"), *words(trade), *words("saw"), *person()]
    else:
        made = [*words(f"A {random_.choice(COLOURS)} {random_.choice(THINGS)} from"), *place(), *words("arrived")]
    made += words(".")
    return [word for word, _ in made], [tag for _, tag in made]


def question(random_, facts=None):
    """(context, question, answer or None, where it starts). A text says one thing of each kind, among others that
    nobody asks for."""
    count = random_.randrange(1, 5)
    relations = random_.sample(RELATIONS, count)
    people = random_.sample(PEOPLE, 2)
    sentences = [fact(random_.choice(people), relation, random_) for relation in relations]
    subjects = [sentence.split()[0] for sentence, _, _ in sentences]
    sentences = list(zip(relations, subjects, sentences))
    for _ in range(random_.randrange(3) if facts is None else facts):
        form = random_.choice(["{} slept well.", "{} met {} at noon.", "{} painted the {} {}.", "{} was tired and went home."])
        words = [random_.choice(PEOPLE), random_.choice(COLOURS if "painted" in form else PEOPLE), random_.choice(THINGS)]
        sentences.insert(random_.randrange(len(sentences) + 1), (None, None, (form.format(*words), "", "")))
    context = " ".join(sentence for _, _, (sentence, _, _) in sentences)
    if random_.random() < 0.35:
        absent = random_.choice([relation for relation in RELATIONS if relation not in relations])
        return context, fact(random_.choice(people), absent, random_)[2], None, -1
    at = random_.choice([at for at, (relation, _, _) in enumerate(sentences) if relation])
    sentence, answer, asked = sentences[at][2]
    start = sum(len(each) + 1 for _, _, (each, _, _) in sentences[:at]) + sentence.rindex(answer)
    return context, asked, answer, start


def choices(random_):
    """(level, article, question, four options, which is right)"""
    level = random_.choice(["middle", "high"])
    facts = 2 if level == "middle" else 4
    pairs = random_.sample([(p, r) for p in random_.sample(PEOPLE, 3) for r in RELATIONS[:3]], facts)
    sentences = [fact(person, relation, random_) for person, relation in pairs]
    at = random_.randrange(facts)
    relation, answer = pairs[at][1], sentences[at][1]
    words = {"lives": TOWNS, "works": JOBS, "likes": FOODS}[relation]
    mentioned = [sentence[1] for sentence in sentences]
    options = random_.sample([word for word in words if word not in mentioned], 3)
    right = random_.randrange(4)
    options.insert(right, answer)
    return level, " ".join(sentence for sentence, _, _ in sentences), sentences[at][2], options, right


def sentence(random_):
    return known(random_)


def related(random_):
    """Two texts that may have words in common."""
    form = random_.randrange(3)
    if form == 0:
        return nli(random_)[1:3]
    if form == 1:
        return similarity(random_)[:2]
    context, asked, _, _ = question(random_)
    return asked, context


def restated(random_):
    """Two texts that say the same: what all encoders learn first."""
    form = random_.randrange(3)
    person, place = random_.choice(PEOPLE), random_.choice(TOWNS)
    colour, thing = random_.choice(COLOURS), random_.choice(THINGS)
    if form == 0:
        first = f"{person} owns a {colour} {thing} and lives in {place}."
        if random_.random() < 0.5:
            first = f"In {place}, {person} the {random_.choice(JOBS)} has lost a {colour} {thing}."
        parts = [f"The {thing} is {colour}.", f"{person} is in {place}.", f"It was a {thing}."]
        random_.shuffle(parts)
        second = " ".join(parts[: random_.randrange(1, 4)])
    elif form == 1:
        first = f"{person} has a {colour} {thing} in {place}."
        second = f"In {place}, a {colour} {thing} belongs to {person}."
    else:
        count = random_.randrange(1, 4)
        crowd = random_.sample(PEOPLE, max(2, count))
        pairs = random_.sample([(person, relation) for person in crowd for relation in RELATIONS], count)
        parts = [fact(*pair, random_)[0] for pair in pairs]
        first = " ".join(parts)
        random_.shuffle(parts)
        second = " ".join(parts)
    return (first, second) if random_.random() < 0.5 else (second, first)
