// rows.h - the numbers of Pair in rows.go.
#pragma once

enum { PAIR_ADD, PAIR_SUB, PAIR_MUL, PAIR_DIV, PAIR_MIN, PAIR_MAX };
