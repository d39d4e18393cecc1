#include "client/tools/output.h"

#include <poll.h>

#include "proto/key.h"

void output_bytes(struct output *output, const void *data, size_t len)
{
	if (output->allocated - output->len < len) {
		size_t allocated = MAX(output->allocated * 2, output->len + len + 1024);
		char *grown = realloc(output->data, allocated);

		if (!grown) {
			output->has_failed = true;
			return;
		}
		output->data = grown;
		output->allocated = allocated;
	}
	if (len > 0)
		memcpy(output->data + output->len, data, len);
	output->len += len;
}

void output_text(struct output *output, const char *text)
{
	output_bytes(output, text, strlen(text));
}

static void output_hex(struct output *output, const char *prefix, unsigned char c)
{
	static const char digits[] = "0123456789abcdef";
	const char hex[] = { digits[c >> 4], digits[c & 0xf] };

	output_text(output, prefix);
	output_bytes(output, hex, sizeof(hex));
}

/* C0, DEL and the backslash; in text that is not UTF-8 also every byte above ASCII. */
static bool is_plain(unsigned char c, bool is_utf8)
{
	return c >= 0x20 && c != 0x7f && c != '\\' && (c < 0x80 || is_utf8);
}

void output_escaped(struct output *output, const char *text, size_t len)
{
	bool is_utf8 = key_is_utf8(text, len);
	size_t start = 0;

	for (size_t i = 0; i < len; i++) {
		if (is_plain((unsigned char)text[i], is_utf8))
			continue;
		output_bytes(output, text + start, i - start);
		start = i + 1;
		if (text[i] == '\n')
			output_text(output, "\\n");
		else if (text[i] == '\t')
			output_text(output, "\\t");
		else if (text[i] == '\\')
			output_text(output, "\\\\");
		else
			output_hex(output, "\\x", (unsigned char)text[i]);
	}
	output_bytes(output, text + start, len - start);
}

static void output_base64(struct output *output, const char *data, size_t len)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const uint8_t *p = (const uint8_t *)data;

	for (size_t i = 0; i < len; i += 3) {
		uint32_t bits = (uint32_t)p[i] << 16;
		char group[4];

		if (i + 1 < len)
			bits |= (uint32_t)p[i + 1] << 8;
		if (i + 2 < len)
			bits |= p[i + 2];
		group[0] = digits[bits >> 18];
		group[1] = digits[bits >> 12 & 0x3f];
		group[2] = i + 1 < len ? digits[bits >> 6 & 0x3f] : '=';
		group[3] = i + 2 < len ? digits[bits & 0x3f] : '=';
		output_bytes(output, group, sizeof(group));
	}
}

static void output_json_string(struct output *output, const char *text, size_t len)
{
	static const char letters[] = "btn\0fr"; /* of 8 to 13 */
	size_t start = 0;

	output_text(output, "\"");
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)text[i];

		if (c >= 0x20 && c != '"' && c != '\\')
			continue;
		output_bytes(output, text + start, i - start);
		start = i + 1;
		if (c < 0x20 && (c < 8 || c > 13 || letters[c - 8] == '\0')) {
			output_hex(output, "\\u00", c);
			continue;
		}
		output_text(output, "\\");
		/* cppcheck-suppress arrayIndexOutOfBoundsCond ; above 13 went its way above */
		output_bytes(output, c < 0x20 ? &letters[c - 8] : &text[i], 1);
	}
	output_bytes(output, text + start, len - start);
	output_text(output, "\"");
}

void output_json(struct output *output, const char *text, size_t len)
{
	if (key_is_utf8(text, len)) {
		output_json_string(output, text, len);
		return;
	}
	output_text(output, "{\"base64\": \"");
	output_base64(output, text, len);
	output_text(output, "\"}");
}

void output_shell(struct output *output, const char *text, size_t len)
{
	const char *end = text + len;

	output_text(output, "'");
	while (text < end) {
		const char *quote = memchr(text, '\'', (size_t)(end - text));
		const char *stop = quote ? quote : end;

		output_bytes(output, text, (size_t)(stop - text));
		if (quote)
			output_text(output, "'\\''");
		text = quote ? quote + 1 : end;
	}
	output_text(output, "'");
}

void output_env_file(struct output *output, const char *text, size_t len)
{
	output_text(output, "\"");
	for (size_t i = 0; i < len; i++) {
		if (text[i] != '\0' && strchr("\"\\`$", text[i]))
			output_text(output, "\\");
		output_bytes(output, &text[i], 1);
	}
	output_text(output, "\"");
}

int output_flush(struct output *output, int fd)
{
	size_t done = 0;
	int r = output->has_failed ? -ENOMEM : 0;

	while (r == 0 && done < output->len) {
		ssize_t n = write(fd, output->data + done, output->len - done);
		struct pollfd pfd = { .fd = fd, .events = POLLOUT };

		if (n >= 0)
			done += (size_t)n;
		else if (errno == EAGAIN) /* a pipe that somebody made non-blocking */
			poll(&pfd, 1, -1);
		else if (errno != EINTR)
			r = -errno;
	}
	output->len = 0;
	output->has_failed = false;
	return r;
}

void output_done(struct output *output)
{
	free(output->data);
	*output = (struct output){ 0 };
}
