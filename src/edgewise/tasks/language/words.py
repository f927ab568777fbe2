"""The words that prompts are made of. Our own lists of common words.

Most are single tokens of most tokenizers; which ones are is checked when a task is loaded, and the
others are left out.
"""

from __future__ import annotations


def _list(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(text.split()))


FEMALE_NAMES = _list("""
    Mary Anna Emma Alice Sarah Laura Julia Helen Kate Lisa Amy Jane Susan Karen Linda Nancy Betty
    Ruth Sharon Michelle Jessica Jennifer Amanda Rachel Emily Elizabeth Victoria Maria Diana Rose
    Grace Claire Hannah Sophie Olivia Charlotte Lucy Molly Martha Margaret Barbara Carol Donna
    Heather Nicole Rebecca Stephanie Christine Catherine Angela Melissa Andrea Lauren Megan Katie
    Kelly Erin Ellen Anne Joan Judy Julie Marie Teresa Tina Vanessa Wendy Sara Jill Holly Eva
    Crystal Allison Abby Eve Cindy
""")

MALE_NAMES = _list("""
    John Tom James David Michael Robert William Richard Joseph Thomas Charles Daniel Matthew Mark
    Paul Steven Andrew Kenneth George Kevin Brian Edward Ronald Timothy Jason Jeffrey Ryan Jacob
    Gary Nicholas Eric Jonathan Stephen Larry Justin Scott Brandon Benjamin Samuel Frank Gregory
    Raymond Alexander Patrick Jack Dennis Jerry Tyler Aaron Henry Adam Peter Nathan Zachary Kyle
    Walter Harold Jeremy Ethan Carl Keith Roger Arthur Sean Christian Albert Joe Bruce Billy Bryan
    Louis Philip Bobby Johnny Martin Victor Simon Luke Oliver Max Alan Steve Mike Tim Ben Dan Greg
""")

NAMES = FEMALE_NAMES + MALE_NAMES

PLACES = _list("""
    park garden school store office station hospital restaurant house library museum church
    market beach forest village castle kitchen hotel theater
""")

OBJECTS = _list("""
    book ring drink letter ball gift flower key coat map phone ticket camera bottle basket hat
    watch picture box cup
""")

# Things that last, for "the war lasted from the year".
EVENTS = _list("""
    war battle siege conflict campaign rebellion revolt revolution uprising strike protest mission
    expedition voyage journey trip tour project program experiment study survey investigation
    trial dispute debate discussion negotiation agreement treaty alliance partnership friendship
    marriage reign rule empire dynasty kingdom occupation colony settlement government parliament
    presidency administration crisis famine drought plague epidemic outbreak flood storm winter
    recession depression boom decline growth expansion construction restoration renovation
    festival exhibition tournament season series career contract deal lease ban boycott blockade
    exile imprisonment captivity silence absence peace truce ceasefire era period phase movement
    tradition practice custom trade pilgrimage migration search hunt pursuit feud rivalry quarrel
    affair romance regime order work treatment illness
""")

# Names of functions and arguments.
VARIABLES = _list("""
    data name file path size value key index count list item node state user text line result
    date time type code group table field order page image color shape width height length depth
    level mode option task job test event log error message query search filter sort limit offset
    start end step rate speed weight scale score rank label title body header footer parent child
    root leaf tree graph edge block chain link host port token hash seed cache buffer queue stack
    array matrix vector point angle range target source model layer input output config version
""")

# Nouns of a docstring's descriptions.
NOUNS = _list("""
    oil water house river mountain city road bridge tree forest garden market money bank paper
    letter story book music song film game team player coach horse dog cat bird fish ship boat
    train plane engine wheel door window wall floor roof kitchen table chair bed lamp glass cup
    bread milk sugar salt fruit apple coffee tea wine beer meat rice corn sun moon star sky cloud
    rain snow wind fire stone sand gold silver iron steel wood glass cotton silk winter summer
    spring morning evening night doctor nurse teacher student farmer worker soldier king queen
    lawyer judge police crime law court prison church school college village island ocean lake
    beach field hill valley desert energy light sound color number letter word page story truth
    dream hope fear love peace war army battle weapon health disease medicine hospital heart brain
    blood bone skin hand foot head face voice smile population society culture history science art
""")

# (one, several): both must be single tokens.
COUNTED = tuple(
    (one, f"{one}s")
    for one in _list("""
        dog cat boy girl king queen teacher student doctor nurse lawyer driver farmer player singer
        writer actor artist author soldier officer worker manager leader friend brother sister
        mother father neighbor guest visitor tree flower river mountain road bridge house
        building tower ship boat car train truck book picture letter table chair lamp key door
        window phone camera computer
    """)
)

COLOURS = _list("red blue green yellow black white brown pink purple gray silver gold")

COLOURED = _list("""
    pen cup book ball hat box bag bottle shirt coat key phone chair lamp plate car bike ring
    towel candle
""")

PRAISED = _list("""
    friend cook teacher doctor singer dancer writer player student leader artist driver
    worker lawyer nurse coach actor runner
""")

PRAISES = _list("great good nice fine wonderful brilliant famous popular")

COUNTRIES = tuple(
    (country, capital)
    for country, capital in (
        pair.split("/")
        for pair in _list("""
            France/Paris Germany/Berlin Italy/Rome Spain/Madrid Japan/Tokyo China/Beijing
            Russia/Moscow England/London Egypt/Cairo Greece/Athens Turkey/Ankara Iran/Tehran
            Iraq/Baghdad Syria/Damascus Cuba/Havana Ireland/Dublin Poland/Warsaw Austria/Vienna
            Norway/Oslo Sweden/Stockholm Portugal/Lisbon Kenya/Nairobi Ukraine/Kiev Lebanon/Beirut
            Pakistan/Islamabad Afghanistan/Kabul Thailand/Bangkok Vietnam/Hanoi Indonesia/Jakarta
            Philippines/Manila Australia/Canberra Canada/Ottawa Libya/Tripoli Belgium/Brussels
            Denmark/Copenhagen Finland/Helsinki Hungary/Budapest Scotland/Edinburgh Qatar/Doha
            Venezuela/Caracas Chile/Santiago Bulgaria/Sofia Serbia/Belgrade Tunisia/Tunis
        """)
    )
)


_PLAYERS_OF = {
    "basketball": """
        Michael Jordan, LeBron James, Kobe Bryant, Stephen Curry, Tim Duncan, Larry Bird, Magic
        Johnson, Kevin Durant, Allen Iverson, Scottie Pippen, Charles Barkley, Karl Malone, Chris
        Paul, James Harden, Patrick Ewing, Steve Nash, Paul Pierce, Kevin Garnett, Dwight Howard
    """,
    "baseball": """
        Babe Ruth, Derek Jeter, Barry Bonds, Mike Trout, Hank Aaron, Willie Mays, Ted Williams,
        Mickey Mantle, Ken Griffey, Alex Rodriguez, Albert Pujols, Roger Clemens, Randy Johnson,
        Lou Gehrig, Pete Rose, David Ortiz, Nolan Ryan, Clayton Kershaw, Mariano Rivera
    """,
    "football": """
        Tom Brady, Peyton Manning, Joe Montana, Jerry Rice, Aaron Rodgers, Drew Brees, Brett Favre,
        Emmitt Smith, Barry Sanders, Dan Marino, John Elway, Eli Manning, Russell Wilson, Randy
        Moss, Jim Brown, Walter Payton, Ray Lewis, Cam Newton, Adrian Peterson, Troy Aikman
    """,
    "tennis": """
        Roger Federer, Rafael Nadal, Serena Williams, Novak Djokovic, Andy Murray, Pete Sampras,
        Andre Agassi, Maria Sharapova, Venus Williams
    """,
    "hockey": """
        Wayne Gretzky, Sidney Crosby, Bobby Orr, Mario Lemieux, Gordie Howe, Alexander Ovechkin
    """,
}
# (player, sport): a player may be several tokens, a sport is one.
PLAYERS = tuple(
    (" ".join(player.split()), sport)
    for sport, players in _PLAYERS_OF.items()
    for player in players.split(",")
)
