"""The best of nearly equal photos.

    look        what is kept of a picture beside its score: small copies, and where it is sharp
    photo       a scored photo as picking needs it
    candidates  which pairs may show the same scene
    alignment   how two small copies lie over each other
    scenes      groups of photos of the same scene
    sequences   what belongs together and is kept whole: brackets, focus stacks, panoramas
    ranking     which photo of a group is the best, and why
    picking     all of it
    faces       whether there are faces, whose eyes nobody looked at

All but ``look`` and ``photo`` need the extra ``pick``. It imports ``images``, ``defects`` and ``score``.
"""
