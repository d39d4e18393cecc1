/*
 * Settings and Field: live typed attributes. A field is a data descriptor; each Settings object has
 * a cell for each field of its class, with the value as it was converted last. A read compares the
 * cell's generation with the library's and gives what is in the cell.
 *
 * What is expected of the Python side (consulcfg/settings.py): Settings._convert(field, raw, last)
 * gives the value for the bytes of a key, or for None.
 */
#pragma once

#include "client/python/reader.h"

extern PyTypeObject field_type;
extern PyTypeObject settings_type;
