/*
 * The INI door. Knows lines, sections and entries, not which of them mean something. Invariant:
 * inih is handed only lines that it reads as people do.
 */
#include "daemon/config-file.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>

#include <ini.h>

#include "proto/limits.h"

#define BLANKS " \t"

struct reading {
	const char *path;
	const char *next; /* the rest of the file's text */
	const char *end;
	unsigned line; /* the one handed to inih last: its handler is told no number */
	bool has_section;
	char section[LIMIT_CONFIG_SECTION + 1];
	config_file_fn fn;
	void *userdata;
	int error; /* 0 or -errno: the first one ends the reading */
	char *message;
};

static int PRINTF_FORMAT(3, 4) fail(struct reading *reading, int error, const char *format, ...)
{
	AUTO_FREE char *text = NULL;
	va_list args;
	int n;

	reading->error = error;
	va_start(args, format);
	n = vasprintf(&text, format, args);
	va_end(args);
	if (n < 0)
		text = NULL;
	if (!text)
		return error;
	if (reading->line > 0)
		n = asprintf(&reading->message, "%s:%u: %s", reading->path, reading->line, text);
	else
		n = asprintf(&reading->message, "%s: %s", reading->path, text);
	if (n < 0)
		reading->message = NULL;
	return error;
}

static const char *skip_blanks(const char *text)
{
	return text + strspn(text, BLANKS);
}

/* Control bytes have no meaning here; a lone CR would hide the rest of the line from inih. */
static int check_bytes(struct reading *reading, const char *line, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)line[i];

		if ((c < 0x20 && c != '\t') || c == 0x7f)
			return fail(reading, -EINVAL,
				"the line holds a control byte (0x%02x); remove it", c);
	}
	return 0;
}

static int enter_section(struct reading *reading, const char *line)
{
	const char *name = line + 1;
	size_t len = strcspn(name, "]");
	const char *rest;

	if (name[len] != ']')
		return fail(reading, -EINVAL, "the section has no closing ']'");
	rest = skip_blanks(name + len + 1);
	if (*rest != '\0' && *rest != ';')
		return fail(reading, -EINVAL,
			"nothing may follow the ']' of a section; give each key a line of its own");
	if (len > LIMIT_CONFIG_SECTION)
		return fail(reading, -EINVAL,
			"a section name has at most %d bytes, this one has %zu; "
			"a glob such as [service name-*] is shorter",
			LIMIT_CONFIG_SECTION, len);
	if (len == 0 || memchr(name, ';', len))
		return fail(reading, -EINVAL, "this is not a section name");
	memcpy(reading->section, name, len);
	reading->section[len] = '\0';
	reading->has_section = true;
	reading->error = reading->fn(
		reading->section, NULL, NULL, reading->path, reading->line, reading->userdata);
	return reading->error;
}

static bool is_key(const char *text, size_t len)
{
	if (len == 0)
		return false;
	for (size_t i = 0; i < len; i++) {
		char c = text[i];

		if (!(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') && !(c >= '0' && c <= '9') &&
			c != '_' && c != '-')
			return false;
	}
	return true;
}

/* A '#' behind white space is meant as a comment and would become part of the value. */
static bool has_hash_comment(const char *value)
{
	bool is_behind_blank = true;

	for (const char *p = value; *p != '\0'; p++) {
		if (*p == '#' && is_behind_blank)
			return true;
		if (*p == ';' && is_behind_blank && p > value)
			return false;
		is_behind_blank = *p == ' ' || *p == '\t';
	}
	return false;
}

static int check_entry(struct reading *reading, const char *line)
{
	const char *equals = strchr(line, '=');
	size_t len;

	/* What is in the line is not shown: it may be the rest of a secret. */
	if (!equals)
		return fail(reading, -EINVAL, "the line has no '='; write key=value");
	len = (size_t)(equals - line);
	while (len > 0 && strchr(BLANKS, line[len - 1]))
		len--;
	if (!is_key(line, len))
		return fail(reading, -EINVAL,
			"what stands before the '=' is not a key; write key=value");
	if (!reading->has_section)
		return fail(reading, -EINVAL,
			"the key stands outside of a section; write a line such as [consul] "
			"above it");
	if (has_hash_comment(equals + 1))
		return fail(reading, -EINVAL, "a comment behind a value begins with ';', not '#'");
	return 0;
}

static int check_line(struct reading *reading, const char *line)
{
	const char *start = skip_blanks(line);

	if (*start == '\0' || *start == ';' || *start == '#')
		return 0;
	if (start > line)
		return fail(reading, -EINVAL,
			"the line begins with white space; a value ends with its line, "
			"and a list goes on by giving its key again");
	if (*line == '[')
		return enter_section(reading, line);
	return check_entry(reading, line);
}

/* Takes the next line of the text into buf, without its end. */
static int take_line(struct reading *reading, char *buf, size_t size)
{
	size_t left = (size_t)(reading->end - reading->next);
	const char *newline = memchr(reading->next, '\n', left);
	size_t len = newline ? (size_t)(newline - reading->next) : left;
	size_t longest = MIN(size - 1, (size_t)LIMIT_CONFIG_LINE);
	const char *line = reading->next;

	reading->line++;
	reading->next = newline ? newline + 1 : reading->end;
	if (len > 0 && line[len - 1] == '\r')
		len--;
	if (len > longest)
		return fail(reading, -EINVAL,
			"a line has at most %zu bytes, this one has %zu; "
			"give a list's key again to go on with it",
			longest, len);
	if (check_bytes(reading, line, len) < 0)
		return reading->error;
	memcpy(buf, line, len);
	buf[len] = '\0';
	return check_line(reading, buf);
}

/* In the shape of fgets(), for inih. */
static char *on_line_wanted(char *buf, int size, void *stream)
{
	struct reading *reading = stream;

	if (reading->error < 0 || reading->next == reading->end)
		return NULL;
	return take_line(reading, buf, (size_t)size) < 0 ? NULL : buf;
}

static int on_entry(void *userdata, const char *section, const char *key, const char *value)
{
	struct reading *reading = userdata;

	(void)section; /* our own copy is the same and outlives the call */
	reading->error = reading->fn(
		reading->section, key, value, reading->path, reading->line, reading->userdata);
	return reading->error == 0;
}

/* Opens without waiting for the writer of a FIFO; a device is fine because of /dev/null. */
static int open_file(struct reading *reading)
{
	AUTO_CLOSE int fd = open(reading->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat st;

	if (fd < 0)
		return errno == ENOENT ? -ENOENT
				       : fail(reading, -errno, "cannot open the file: %m");
	if (fstat(fd, &st) < 0)
		return fail(reading, -errno, "cannot look at the file: %m");
	if (!S_ISREG(st.st_mode) && !S_ISCHR(st.st_mode))
		return fail(reading, -EINVAL, "this is not a file");
	return TAKE_FD(fd);
}

/* The whole file into memory of the caller's: at most LIMIT_CONFIG_FILE bytes. */
static int read_text(struct reading *reading, char **ret_text, size_t *ret_len)
{
	AUTO_CLOSE int fd = -1;
	AUTO_FREE char *text = NULL;
	size_t len = 0;
	ssize_t n;

	fd = open_file(reading);
	if (fd < 0)
		return fd;
	text = malloc(LIMIT_CONFIG_FILE + 1);
	if (!text)
		return -ENOMEM;
	do {
		n = read(fd, text + len, LIMIT_CONFIG_FILE + 1 - len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return fail(reading, -errno, "cannot read the file: %m");
		len += (size_t)n;
	} while (n != 0 && len <= LIMIT_CONFIG_FILE);
	if (len > LIMIT_CONFIG_FILE)
		return fail(reading, -EFBIG, "the file is larger than %u bytes; split it",
			LIMIT_CONFIG_FILE);
	*ret_text = TAKE_PTR(text);
	*ret_len = len;
	return 0;
}

static int parse(struct reading *reading)
{
	static const char mark[] = "\xef\xbb\xbf"; /* of byte order, from some editors */
	int r;

	if (reading->end - reading->next >= 3 && memcmp(reading->next, mark, 3) == 0)
		reading->next += 3;
	r = ini_parse_stream(on_line_wanted, reading, on_entry, reading);
	if (reading->error < 0)
		return reading->error;
	if (r < 0)
		return -ENOMEM;
	/* Not reached as long as check_line() refuses all that inih does. */
	if (r > 0)
		return fail(reading, -EINVAL, "line %d is neither section nor entry", r);
	return 0;
}

int config_file_read(const char *path, config_file_fn fn, void *userdata, char **ret_message)
{
	struct reading reading = { .path = path, .fn = fn, .userdata = userdata };
	AUTO_FREE char *text = NULL;
	size_t len = 0;
	int r;

	r = read_text(&reading, &text, &len);
	if (r == 0) {
		reading.next = text;
		reading.end = text + len;
		r = parse(&reading);
	}
	if (r < 0)
		*ret_message = reading.message;
	return r;
}
