#include "daemon/directory-walk.h"

#include <fcntl.h>

#define LINKS_MAX 40 /* as the kernel */

/* Opens the directory that the next step of a path starts from, in place of *dir. */
static void walk_to(int *dir, int at_fd, const char *name)
{
	int next = openat(at_fd, name, O_PATH | O_DIRECTORY | O_CLOEXEC);

	std_closep(dir);
	*dir = next;
}

/* Puts a link's target in front of what is left of the path; false when there is no room. */
static bool splice_link(int link_fd, char *rest, size_t size, const char *behind)
{
	char target[PATH_MAX];
	ssize_t len = readlinkat(link_fd, "", target, sizeof(target));
	size_t behind_len = strlen(behind);

	if (len <= 0 || (size_t)len + behind_len + 2 > size)
		return false;
	memmove(rest + len + 1, behind, behind_len + 1);
	memcpy(rest, target, (size_t)len);
	rest[len] = '/';
	return true;
}

void directory_walk(struct directory_follower *follower, int at_fd, const char *path,
	enum directory_interest_kind last, struct directory_place *ret_place)
{
	char rest[2 * PATH_MAX];
	AUTO_CLOSE int dir = -1;

	ret_place->token = -1;
	ret_place->is_link = false;
	ret_place->name[0] = '\0';
	if (strlen(path) >= sizeof(rest))
		return;
	strcpy(rest, path);
	walk_to(&dir, at_fd, rest[0] == '/' ? "/" : ".");
	for (unsigned n_links = 0; dir >= 0 && n_links <= LINKS_MAX;) {
		const char *start = rest + strspn(rest, "/");
		size_t len = strcspn(start, "/");
		const char *behind = start + len;
		AUTO_CLOSE int next = -1;
		bool is_last = behind[strspn(behind, "/")] == '\0';
		struct stat st;

		if (len == 0 || len > NAME_MAX)
			return;
		memcpy(ret_place->name, start, len);
		ret_place->name[len] = '\0';
		if (!std_streq(ret_place->name, ".") && !std_streq(ret_place->name, ".."))
			ret_place->token = directory_notify_add(
				follower, dir, is_last ? last : DIRECTORY_STEP, ret_place->name);
		next = openat(dir, ret_place->name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
		if (next < 0 || fstat(next, &st) < 0)
			return;
		if (S_ISLNK(st.st_mode)) {
			n_links++;
			ret_place->is_link = true;
			if (!splice_link(next, rest, sizeof(rest), behind))
				return;
			if (rest[0] == '/')
				walk_to(&dir, AT_FDCWD, "/");
		} else {
			walk_to(&dir, next, ".");
			memmove(rest, behind, strlen(behind) + 1);
		}
	}
}
