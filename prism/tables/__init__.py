"""Prediction of table files of any size: read in batches, sent a few at a time, written with the results beside the rows.

records.py       a file → batches of rows, as they stand in the file
run.py           which batch is next, what its answer means, and where a run stopped
result_file.py   the results, complete or in a part that a later run continues
"""
