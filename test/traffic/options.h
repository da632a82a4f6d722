/*
 * Command-line options as one table: a row is name, value, help and where the
 * value goes, so that parsing and --help cannot disagree. A wrong command line
 * ends the program with one sentence and exit code 64.
 */
#ifndef TRAFFIC_OPTIONS_H
#define TRAFFIC_OPTIONS_H

#include "common.h"

struct option_row {
	const char *name, *value; /* value NULL: a flag */
	const char *help;
	void (*parse)(const struct option_row *row, const char *text);
	void *target;
	uint64_t min, max; /* of a number */
};

/* Target: uint64_t. */
static inline void parse_number(const struct option_row *row, const char *text)
{
	char *end;
	unsigned long long value;

	errno = 0;
	value = strtoull(text, &end, 10);
	if (errno || *end || end == text || *text == '-' || value < row->min || value > row->max)
		die(EXIT_USAGE, "--%s %s: not a number from %llu to %llu", row->name, text,
		    (unsigned long long)row->min, (unsigned long long)row->max);
	*(uint64_t *)row->target = value;
}

#define NUMBERS_MAX 16

struct number_list {
	size_t count;
	uint64_t values[NUMBERS_MAX];
};

/* Target: struct number_list; between commas. */
static inline void parse_numbers(const struct option_row *row, const char *text)
{
	struct number_list *list = row->target;
	char copy[256], *rest = copy, *part;

	if (snprintf(copy, sizeof(copy), "%s", text) >= (int)sizeof(copy))
		die(EXIT_USAGE, "--%s %s: too long", row->name, text);
	for (list->count = 0; (part = strsep(&rest, ",")); list->count++) {
		struct option_row one = *row;

		if (list->count == NUMBERS_MAX)
			die(EXIT_USAGE, "--%s %s: more than %d", row->name, text, NUMBERS_MAX);
		one.target = &list->values[list->count];
		parse_number(&one, part);
	}
}

/* Target: uint64_t, in nanoseconds. */
static inline void parse_seconds(const struct option_row *row, const char *text)
{
	char *end;
	double value = strtod(text, &end);

	if (*end || end == text || !(value >= 0 && value <= 1e6))
		die(EXIT_USAGE, "--%s %s: not a number of seconds", row->name, text);
	*(uint64_t *)row->target = (uint64_t)(value * (double)NS_PER_SECOND);
}

/* Target: struct in_addr. */
static inline void parse_address(const struct option_row *row, const char *text)
{
	if (inet_pton(AF_INET, text, row->target) != 1)
		die(EXIT_USAGE, "--%s %s: not an IPv4 address", row->name, text);
}

/* Target: bool. */
static inline void parse_flag(const struct option_row *row, const char *text)
{
	(void)text;
	*(bool *)row->target = true;
}

static inline void print_help(const struct option_row *rows)
{
	printf("usage: %s OPTION…\n", program);
	for (const struct option_row *row = rows; row->name; row++) {
		int width = printf("  --%s %s", row->name, row->value ? row->value : "");

		printf("%*s%s\n", width < 31 ? 31 - width : 1, "", row->help);
	}
}

/* rows end with a row without a name. */
static inline void parse_options(const struct option_row *rows, int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		const struct option_row *row = rows;

		if (!strcmp(argv[i], "--help")) {
			print_help(rows);
			exit(0);
		}
		while (row->name && (strncmp(argv[i], "--", 2) || strcmp(argv[i] + 2, row->name)))
			row++;
		if (!row->name)
			die(EXIT_USAGE, "unknown option %s; see --help", argv[i]);
		if (row->value && i + 1 == argc)
			die(EXIT_USAGE, "--%s needs %s", row->name, row->value);
		row->parse(row, row->value ? argv[++i] : NULL);
	}
}

#endif
