/*
 * Replaces libmpathpersist in tests: records its arguments, and returns prepared answers.
 *
 * All of its files are in the directory that the environment variable FAKE names. Numbers are in the host's byte order.
 * Offsets are those of the library's structures with pointers of eight bytes.
 *
 * - init: the value that libmpathpersist_init returns; 0 if the file does not exist.
 * - calls: a line for each call of libmpathpersist_exit, IN, OUT and mpath_process_cmd.
 * - list: written by OUT, the parameter list that a device would receive.
 * - result: the value that IN and OUT return.
 * - answer: the bytes that IN writes at the start of its buffer.
 * - multipathd: the state of multipathd: "refused", "busy", "silent" or "running".
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

unsigned int mpath_mx_alloc_len;

static FILE *fake(const char *name, const char *mode)
{
	char path[4096];

	snprintf(path, sizeof(path), "%s/%s", getenv("FAKE"), name);
	return fopen(path, mode);
}

static size_t contents(const char *name, void *buffer, size_t size)
{
	FILE *file = fake(name, "r");
	size_t length;

	if (!file)
		return 0;
	length = fread(buffer, 1, size, file);
	fclose(file);
	return length;
}

static int number(const char *name)
{
	char text[32] = "";

	contents(name, text, sizeof(text) - 1);
	return atoi(text);
}

static void record(const char *format, ...)
{
	FILE *file = fake("calls", "a");
	va_list arguments;

	va_start(arguments, format);
	vfprintf(file, format, arguments);
	va_end(arguments);
	fclose(file);
}

int libmpathpersist_init(void)
{
	return number("init");
}

int libmpathpersist_exit(void)
{
	record("exit\n");
	return 0;
}

int mpath_persistent_reserve_in(int fd, int action, void *answer, int noisy, int verbose)
{
	static unsigned char bytes[1 << 20];
	size_t length = contents("answer", bytes, sizeof(bytes));

	record("in %d %d %d %d\n", fd, action, noisy, verbose);
	memcpy(answer, bytes, length);
	return number("result");
}

/* Builds a TransportID from the 258 bytes of the library's structure. Returns its length. */
static size_t transport_id(unsigned char *to, const unsigned char *id)
{
	size_t length = 24;

	memset(to, 0, 24);
	to[0] = id[0] | id[1];
	switch (id[1]) {
	case 0:
		memcpy(to + 8, id + 2, 8);
		break;
	case 6:
		memcpy(to + 4, id + 2, 8);
		break;
	case 5:
		length = id[3] + 4;
		memcpy(to + 2, id + 2, length - 2);
		break;
	}
	return length;
}

int mpath_persistent_reserve_out(int fd, int action, int scope, unsigned int type, unsigned char *list, int noisy,
				 int verbose)
{
	FILE *file = fake("list", "w");
	unsigned char ids[32 * 256];
	uint32_t count, index, length = 0;

	record("out %d %d %d %u %d %d\n", fd, action, scope, type, noisy, verbose);
	fwrite(list, 1, 24, file);
	memcpy(&count, list + 8216, sizeof(count));
	if (list[20] & 0x08) {
		unsigned char field[4];

		for (index = 0; index < count; index++) {
			unsigned char *id;

			memcpy(&id, list + 8224 + index * sizeof(id), sizeof(id));
			length += transport_id(ids + length, id);
		}
		field[0] = length >> 24;
		field[1] = length >> 16;
		field[2] = length >> 8;
		field[3] = length;
		fwrite(field, 1, 4, file);
		fwrite(ids, 1, length, file);
	}
	fclose(file);
	/* The library overwrites the list, too. */
	memset(list, 0xff, 8216);
	return number("result");
}

static const char *multipathd(void)
{
	static char text[32];

	memset(text, 0, sizeof(text));
	contents("multipathd", text, sizeof(text) - 1);
	return text;
}

int __mpath_connect(int nonblocking)
{
	if (!strcmp(multipathd(), "refused"))
		errno = ECONNREFUSED;
	else if (!strcmp(multipathd(), "busy") && nonblocking)
		errno = EAGAIN;
	else
		return open("/dev/null", O_RDONLY | O_CLOEXEC);
	return -1;
}

int mpath_disconnect(int fd)
{
	return close(fd);
}

int mpath_process_cmd(int fd, const char *command, char **reply, unsigned int timeout)
{
	record("multipathd %s %u\n", command, timeout);
	(void)fd;
	*reply = NULL;
	if (!strcmp(multipathd(), "running")) {
		*reply = strdup("pid 1 idle\n");
		return 0;
	}
	errno = ETIMEDOUT;
	return -1;
}

/* Symbols of some versions only. */
#ifdef GENERATION_10
void mpath_persistent_reserve_in__(void) {}
#endif
#ifndef GENERATION_13
void update_map_pr(void) {}
#endif
