"""
The verbs of the command line for operators, such as ``txsentinel list``.

They use the Sentinels from outside, of any kind, through ``txsentinel.remote``. ``command`` has the group of all verbs;
``screen`` renders what they return; the other modules have a few verbs each.
"""
