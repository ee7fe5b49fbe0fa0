"""Synthetic videos of people, drawn in NumPy, with exact labels.

Other parts of the project import `Synthetic`, `SyntheticClip`, `synthetic_clip` and `HELD_OUT` from `clips`, and
`write_stills` from `stills`. The other files draw: `clips` composes a scene of `casting` (who acts, and where), `gaits`
(how bodies move), `puppets` (bodies and joints), `wardrobe` (clothes), `scenery` (backdrop and camera) and `strokes`
(the rasterizer).
"""
