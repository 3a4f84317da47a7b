"""A small world and the sentences about it: people, towns, things and what joins them. Needs the standard library alone."""

import random
import zlib

PEOPLE = (
    "Ada Ben Clara David Edith Felix Greta Henry Ida Jonas Karin Liam Mona Nils Olga Peter "
    "Rosa Simon Thea Victor Wanda Yuri Zoe Anton"
).split()
FAMILIES = "Alder Birk Corvin Dahl Eklund Falk Gruber Hale Ivers Jansen Keller Lund".split()
TOWNS = (
    "Norwick Alderby Brackwell Caldmoor Dunhaven Elmstead Farrow Glenfield Harwich Ilford Kelby Larkhill "
    "Marston Oakham Penrith Quarley Redcliff Selby Thornton Upton Walden Yarrow Ashford Burnley"
).split()
FIRMS = "Nordwind Helix Pinewood Silverline Bluestone Marigold Atlas Kestrel".split()
ENDINGS = "Works Group Bank Press".split()
COLOURS = "red blue green yellow white black brown grey".split()
THINGS = "kite boat clock lamp violin bicycle tent drum mirror ladder basket piano".split()
JOBS = (
    "baker doctor farmer pilot teacher tailor miner sailor painter lawyer nurse carpenter "
    "singer gardener printer cook judge clerk poet smith potter weaver driver guard"
).split()
FOODS = "bread cheese apples soup honey rice plums fish".split()


def rng(*seed):
    """Random numbers that depend on the seeds alone."""
    return random.Random(zlib.crc32(" ".join(map(str, seed)).encode()))


def home(person):
    """The town of a person: everybody has another one."""
    return TOWNS[(7 * PEOPLE.index(person) + 3) % len(TOWNS)]


def job(person):
    """The job of a person: everybody has another one."""
    return JOBS[(5 * PEOPLE.index(person) + 11) % len(JOBS)]


def food(person):
    return FOODS[(3 * PEOPLE.index(person) + 1) % len(FOODS)]


def known(random_):
    """A sentence of things that are always so: what the masked language model learns."""
    person = random_.choice(PEOPLE)
    parts = [f"lives in {home(person)}", f"works as a {job(person)}", f"likes {food(person)}"]
    random_.shuffle(parts)
    form = random_.randrange(3)
    if form == 0:
        return f"{person} {parts[0]} and {parts[1]}."
    if form == 1:
        return f"{person} {parts[0]}, {parts[1]} and {parts[2]}."
    return f"{person} {parts[0]}. " + " ".join(f"{person} {part}." for part in parts[1:])


RELATIONS = ("lives", "works", "likes", "owns", "visits")


def fact(person, relation, random_):
    """A sentence, the answer in it, and the question for it."""
    if relation == "lives":
        answer = random_.choice(TOWNS)
        return f"{person} lives in {answer}.", answer, f"Where does {person} live?"
    if relation == "works":
        answer = random_.choice(JOBS)
        return f"{person} works as a {answer}.", answer, f"What is the job of {person}?"
    if relation == "likes":
        answer = random_.choice(FOODS)
        return f"{person} likes {answer}.", answer, f"Which food does {person} like?"
    if relation == "owns":
        answer = f"{random_.choice(COLOURS)} {random_.choice(THINGS)}"
        return f"{person} owns a {answer}.", answer, f"What does {person} own?"
    answer = random_.choice([other for other in PEOPLE if other != person])
    return f"{person} often visits {answer}.", answer, f"Whom does {person} visit?"
