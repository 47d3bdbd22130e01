/* Faulty disk: while a file says so, writes below one folder fail as on a disk that is full, broken
 * or read-only.
 *
 * In: FAULTY_DISK (a file with ENOSPC, EIO or EROFS in it; absent: the disk is well) and
 * FAULTY_DISK_UNDER (the folder, with all links resolved). Out: -1 and that errno, nothing written.
 * A file with HANG in it: a write waits until the file is gone.
 * Never: touches a read, a file elsewhere, or a socket.
 *
 * Preloaded (LD_PRELOAD), so it stands between SQLite or Python and the kernel.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

/* Straight to the kernel: what reads the control file must not come by here again. */
static int control(void)
{
    const char *path = getenv("FAULTY_DISK");
    char word[16] = "";
    if (path == NULL) {
        return 0;
    }
    for (;;) {
        long fd = syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
        if (fd < 0) {
            return 0;
        }
        long count = syscall(SYS_read, fd, word, sizeof word - 1);
        syscall(SYS_close, fd);
        word[count > 0 ? count : 0] = '\0';
        if (strncmp(word, "HANG", 4) != 0) {
            break;
        }
        usleep(5000);
    }
    if (strncmp(word, "ENOSPC", 6) == 0) {
        return ENOSPC;
    }
    if (strncmp(word, "EROFS", 5) == 0) {
        return EROFS;
    }
    return strncmp(word, "EIO", 3) == 0 ? EIO : 0;
}

static int is_under(const char *path)
{
    const char *folder = getenv("FAULTY_DISK_UNDER");
    size_t length = folder == NULL ? 0 : strlen(folder);
    return length > 0 && strncmp(path, folder, length) == 0 &&
           (path[length] == '/' || path[length] == '\0');
}

static int trouble_of_fd(int fd)
{
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0) {
        return 0;
    }
    path[length] = '\0';
    return is_under(path) ? control() : 0;
}

static int trouble_of_path(const char *path)
{
    char full[PATH_MAX + 2], folder[PATH_MAX], found[PATH_MAX];
    snprintf(folder, sizeof folder, "%s", path);
    char *slash = strrchr(folder, '/');
    if (slash == NULL) {
        snprintf(folder, sizeof folder, ".");
    } else {
        *(slash == folder ? slash + 1 : slash) = '\0';
    }
    if (realpath(folder, found) == NULL) {
        return 0;
    }
    snprintf(full, sizeof full, "%.*s/", (int)sizeof full - 2, found);
    return is_under(full) ? control() : 0;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define FAIL_FD(fd)                   \
    do {                              \
        int code = trouble_of_fd(fd); \
        if (code != 0) {              \
            errno = code;             \
            return -1;                \
        }                             \
    } while (0)

ssize_t write(int fd, const void *data, size_t size)
{
    FAIL_FD(fd);
    return REAL(write)(fd, data, size);
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    FAIL_FD(fd);
    return REAL(writev)(fd, parts, count);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset)
{
    FAIL_FD(fd);
    return REAL(pwrite)(fd, data, size, offset);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset)
{
    FAIL_FD(fd);
    return REAL(pwrite64)(fd, data, size, offset);
}

int fsync(int fd)
{
    FAIL_FD(fd);
    return REAL(fsync)(fd);
}

int fdatasync(int fd)
{
    FAIL_FD(fd);
    return REAL(fdatasync)(fd);
}

int ftruncate(int fd, off_t size)
{
    FAIL_FD(fd);
    return REAL(ftruncate)(fd, size);
}

int ftruncate64(int fd, off64_t size)
{
    FAIL_FD(fd);
    return REAL(ftruncate64)(fd, size);
}

int fallocate(int fd, int mode, off_t offset, off_t size)
{
    FAIL_FD(fd);
    return REAL(fallocate)(fd, mode, offset, size);
}

int posix_fallocate(int fd, off_t offset, off_t size)
{
    int code = trouble_of_fd(fd);
    return code != 0 ? code : REAL(posix_fallocate)(fd, offset, size);
}

#define OPEN(name)                                                 \
    int name(const char *path, int flags, ...)                     \
    {                                                              \
        va_list rest;                                              \
        va_start(rest, flags);                                     \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
        va_end(rest);                                              \
        if ((flags & O_ACCMODE) != O_RDONLY || flags & O_CREAT) {  \
            int code = trouble_of_path(path);                      \
            if (code != 0) {                                       \
                errno = code;                                      \
                return -1;                                         \
            }                                                      \
        }                                                          \
        return REAL(name)(path, flags, mode);                      \
    }

OPEN(open)
OPEN(open64)

int openat(int at, const char *path, int flags, ...)
{
    va_list rest;
    va_start(rest, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    if (((flags & O_ACCMODE) != O_RDONLY || flags & O_CREAT) && (at == AT_FDCWD || *path == '/')) {
        int code = trouble_of_path(path);
        if (code != 0) {
            errno = code;
            return -1;
        }
    }
    return REAL(openat)(at, path, flags, mode);
}

/* The names of files are writes, too. */
#define NAME1(name)                               \
    int name(const char *path)                    \
    {                                             \
        int code = trouble_of_path(path);         \
        if (code != 0 && code != ENOSPC) {        \
            errno = code;                         \
            return -1;                            \
        }                                         \
        return REAL(name)(path);                  \
    }

NAME1(unlink)

int rename(const char *from, const char *to)
{
    int code = trouble_of_path(to);
    if (code != 0 && code != ENOSPC) {
        errno = code;
        return -1;
    }
    return REAL(rename)(from, to);
}

int mkdir(const char *path, mode_t mode)
{
    int code = trouble_of_path(path);
    if (code != 0) {
        errno = code;
        return -1;
    }
    return REAL(mkdir)(path, mode);
}
