#include "client/tools/envname.h"

char *envname_of(const char *key, size_t len, char buf[ENVNAME_SIZE])
{
	char *out = buf;

	if (key[0] >= '0' && key[0] <= '9')
		*out++ = '_';
	for (size_t i = 0; i < len; i++) {
		char c = key[i];

		if (c >= 'a' && c <= 'z')
			c = (char)(c - 'a' + 'A');
		else if (!(c >= 'A' && c <= 'Z') && !(c >= '0' && c <= '9'))
			c = '_';
		*out++ = c;
	}
	*out = '\0';
	return buf;
}
