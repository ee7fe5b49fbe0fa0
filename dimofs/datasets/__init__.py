"""Data sets of poses in images and videos, one in each file.

To add a data set for training:

1. Write a class in a file of its own here that offers the three methods of `people.PairSource`: `__len__`, `pair`
   (two frames and the labelled people of the first) and `frames` (every frame that a teacher model may label, with the
   name that `pair` gives it). `coco.CocoKeypoints` is an example of images, `jhmdb.Jhmdb` one of clips.
   `people.to_dimofs` maps the joints of the data set, by name, to the 19 joints of this project. Boxes and joints are
   in pixels, with pixel centres at integer + 0.5. Raise `InputError` with one line that names file and field.
2. Register it in `zoo/training/data.py`: a field of `Paths`, which is the option of the commands that read data, and an
   entry in `Paths.sources`. Add its default weight to the recipes in `zoo/training/recipes.py`.
3. Test it on files that the test writes, with labels computed by hand (`tests/test_coco.py`).

To evaluate on a data set of videos, also write a function in `sequences.py` that returns `LabelledVideo`s.
"""
