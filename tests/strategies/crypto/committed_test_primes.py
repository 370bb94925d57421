"""PRIMES FOR TESTS ONLY, committed for all to read: a key of them protects nothing.

Keys refuse the long ones unless `test_only=True` (by the SHA-256 of their n, in
strategies.crypto.paillier.cryptosystem), and short ones for their length. p and q of each; of a subgroup key also a and
b, p = 2 a p' + 1 and q = 2 b q' + 1.
"""

from __future__ import annotations

from strategies.crypto.paillier.cryptosystem import PrivateKey

TOY = (23, 59)  # 1,276 units mod n: few enough to look at every one

LARGE = ("safe-3072", "subgroup-3072", "safe-2048")

COMMITTED: dict[str, tuple[str, ...]] = {
    "safe-3072": (
        "d3d62ccf320292224b89a6cc004e5134de3a31540da32aeea6f94cf0da01263dbc664cdb93da48d4ed141088cd59d18b"
        "a27594de8ed7fee0ead68b4d11adf51bb4eaecf875712d9738880ae6d7f613a25ec3b41c942d446c46a6649ee4c4344b"
        "51c86b8b810a7162c4279ff48c77f7eb482f56cd38127238c1260787277e1cef7b619c82805590ba476a4acb080186f1"
        "a3bd5f8d4ad6b1992f7e210e5fac1d7818aa9e80f3325de8cb1add97ef29f61435d621711d415a48346aceb163196d8f",
        "f1269a6152322d37605d0f0622c294890e60c850117a9361c88b31ef70c462063e6055fb348880ca87c6864f24a8c487"
        "680659fd2a5a02c69b440fa470ab4d8722f2fa5b361732adb5660cc632cace51d193665e8749f4fed51a2e7fbbdc9b83"
        "38086a1ada3ad07250c8ed74ed61275b2eba653d3f48c7d0ac35e45a9d98aa5781178847b67b3fab9dab8ea72a286937"
        "b443b7ecbbe862380dfddde15d4b15908faea8ed6bbd9748f7dbf5ee8be4d97151bf91f3ea381234431e76388ce7cfbb",
    ),
    "subgroup-3072": (
        "d279fad36ee703d9ed5a235529bcb4645b437edae882939eac1503594ae9f58b0bb76dcf2cfac28e3360151107febb5c"
        "8fff415278a36f8fc9795eddfcfb61ac3096cc77341f2c7eb52c43d44e5ea1c2400b8da30c0752f144a31c495f28c451"
        "0b9596f288ae74df38f190b336360d5af16d67c39f98815baf14e664fbc9e717675cf18f3efc1a39a95f796944e5fdc6"
        "18b1aeb0a61790ea25e35de9f47d50ae92277ed0a9ab18e6abcfabeb6db07dd57510b724074f515eb6c53d206493ddef",
        "f3322e9a31ab6b3e73773449eab872fcccb3251079ef1bfad88c1aa16f62ba8c8246995a867c21e54d4c68b53e618d95"
        "074a35d81353ec91956cd4304a2a27af3a0d6c5c7ce174aa9fdce6e5d07e6a8bf737887c7c414cf9ae59d23cd8147017"
        "d696dbed7a332991fb3efec5b4c02d657934a6fd7f2046bd22f105007b5e3ab1ff7de3f392958ec5fd986cc15ec4d17c"
        "e24f6ab94a6ba3ead609cffcf246214f55c6a4e720af16b8f8ced2b1a5bb1a93b183e555c87fc0126e4872705ff81d0b",
        "f325fa2cc8e06368feb3a46eec75336a7fe5bbedbdfd3038bd4c3d51f3f0c0ee58d25bcd599dbc705d3bb52ece410c76"
        "0ae92de775375281",
        "fecd4e085626f0b3caf2b4efb27d765006132c52885aa029b04f6266f5f1fa2b49b33dbe6cd8a7231d397d84b83f69c8"
        "912840996f0a0c53",
    ),
    "safe-2048": (
        "d5eaf72534b9a5ba6c07ca8a5435999f29c06a2b9c296640cfd34e3865a0b63a8999b4acf54fe1d6be5d08228c781ad4"
        "8c3926c396a464d61483a8bc17fb4e4072c38ac4a0bf1e3999ad84558cbbf73e63cbff51304c1acc921f990d19502a05"
        "26e1d8e09fce369082bfdd769ef3f70fd326bea887c711152d2361c4080ba01b",
        "c19f30a6b0c3e0d5fc7dfdde81cd0981b6701f415454c72088dbd482bfe06b50cd4b6cf7d50aa94bf3b80772f4885c04"
        "4d7cce1ce24957a5b544519d104fbc4c2953d5525b652e70957e07648354eabb7baf7dd2c8f3cd6d1251b816ff4dcaf1"
        "8d76f9c79aba1e5e4b0916898efb1549040fc42e33ec9289e3fb2cd7d455947f",
    ),
    "safe-512": (
        "dcf4caba5394b952522642b17afd096b6805f782c333931ba795c1ea7e726e47",
        "c238e1d178fdeb3c668fcd7c59007fb6781130acbaa6a8ec87bf4463c24945cb",
    ),
    "subgroup-1024": (
        "e38cc6bbab238fc380824b5c10cf9adfc98690c230b8234e7d6f2008497084d786683d94badcfacd352017caef1c2807"
        "a7405067c6b7bcf579e8f2a1987cfa9b",
        "ed940d7486de85dc4c7bbf7d52cabbd6ad4d930c82f623fed37b6dda98b43aaa35bb39367bb0f99885f1c5d4f91331d0"
        "a127c6ac0e146bc91d816323f79f66c3",
        "f658c46953b2c2e169be2bc551e8ebee73db3ee9259e40b9bec47e48ee71b10eaf8313956031417abef5cdad71b7ca2c"
        "09a37c407271df3d",
        "de97e50a0f93a62bacfe509a277792880a81218c9b376e62b375c7cd4430ae4f2ca54fd3fe74dc0f72c62ec76a14bd5e"
        "3d01409453bcd92f",
    ),
    "plain-512": (
        "c24e14dc668b0323199aaf2be15fcff71680ba4369ac364cacb14764dbc18def",
        "e133277d53ecfbfae99bc4bf020074e152cc642d6df607062c7c2014ccb92855",
    ),
}


def committed_key(name: str) -> PrivateKey:
    """The committed key of this name, for tests."""
    p, q, *orders = (int(digits, 16) for digits in COMMITTED[name])
    return PrivateKey(p, q, (orders[0], orders[1]) if orders else None, test_only=True)
