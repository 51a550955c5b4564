/* A file system with a fault, for one folder of one program: LD_PRELOAD=shim.so FS_ROOT=/folder FS_FAULT=fold PROGRAM.

   fold       names differ by more than their case, as on exFAT, SMB and macOS
   no-sync    fsync answers EINVAL            no-sync-38  ENOSYS, as some FUSE file systems do
   names      names with a character of :*?"<>| are EINVAL, as on exFAT
   read-only  nothing can be made, changed or removed: EROFS
   full       writes fail with ENOSPC after FS_BYTES bytes of the process; quota: EDQUOT; io: EIO
   sync-io    fsync answers EIO */
#define _GNU_SOURCE
#include <ctype.h>
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define LENGTH 8192

static int fault(const char *name) {
    const char *own = getenv("FS_FAULT");
    return own && !strcmp(own, name);
}

/* The path of a name below a folder's descriptor, in `to`; where it lies below FS_ROOT its rest, else NULL. */
static char *locate(int folder, const char *path, char *to) {
    const char *root = getenv("FS_ROOT");
    char link[64];
    size_t used = 0;
    if (!root || !path || strlen(path) > 4096) return NULL;
    if (path[0] != '/') {
        ssize_t size;
        if (folder == AT_FDCWD) return NULL;
        snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
        size = readlink(link, to, LENGTH / 2);
        if (size < 0) return NULL;
        used = (size_t)size;
        to[used++] = '/';
    }
    strcpy(to + used, path);
    if (strncmp(to, root, strlen(root)) || (to[strlen(root)] != '/' && to[strlen(root)])) return NULL;
    return to + strlen(root);
}

/* The path to use instead; NULL with errno where the name or a change is refused. */
static const char *translate(int folder, const char *path, char *to, int changes) {
    char *rest = locate(folder, path, to);
    if (!rest) return path;
    if (changes && fault("read-only")) return errno = EROFS, NULL;
    if (fault("names") && strpbrk(rest, ":*?\"<>|")) return errno = EINVAL, NULL;
    if (!fault("fold")) return path;
    for (; *rest; rest++) *rest = (char)tolower((unsigned char)*rest);
    return to;
}

static int refused(int handle) {
    static long written;
    char link[64], path[LENGTH], to[LENGTH];
    ssize_t size;
    int code = fault("full") ? ENOSPC : fault("quota") ? EDQUOT : fault("io") ? EIO : 0;
    if (!code) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", handle);
    size = readlink(link, path, sizeof path - 1);
    if (size < 0) return 0;
    path[size] = 0;
    if (!locate(AT_FDCWD, path, to)) return 0;
    written += 4096;
    return written > atol(getenv("FS_BYTES")) ? code : 0;
}

#define BEGIN(folder, path, changes)                              \
    char to[LENGTH];                                              \
    const char *own = translate(folder, path, to, changes);       \
    if (!own) return -1;

#define OPEN(name)                                                             \
    int name(const char *path, int flags, ...) {                               \
        va_list more;                                                          \
        va_start(more, flags);                                                 \
        mode_t mode = va_arg(more, mode_t);                                    \
        va_end(more);                                                          \
        BEGIN(AT_FDCWD, path, flags & (O_CREAT | O_WRONLY | O_RDWR))           \
        return REAL(name)(own, flags, mode);                                   \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                           \
    int name(int folder, const char *path, int flags, ...) {                   \
        va_list more;                                                          \
        va_start(more, flags);                                                 \
        mode_t mode = va_arg(more, mode_t);                                    \
        va_end(more);                                                          \
        BEGIN(folder, path, flags & (O_CREAT | O_WRONLY | O_RDWR))             \
        return REAL(name)(folder, own, flags, mode);                           \
    }
OPENAT(openat)
OPENAT(openat64)

#define STAT(name, kind)                                                       \
    int name(const char *path, struct kind *found) {                           \
        BEGIN(AT_FDCWD, path, 0)                                               \
        return REAL(name)(own, found);                                         \
    }
STAT(stat, stat)
STAT(lstat, stat)
STAT(stat64, stat64)
STAT(lstat64, stat64)

#define STATAT(name, kind)                                                     \
    int name(int folder, const char *path, struct kind *found, int flags) {    \
        BEGIN(folder, path, 0)                                                 \
        return REAL(name)(folder, own, found, flags);                          \
    }
STATAT(fstatat, stat)
STATAT(fstatat64, stat64)

int access(const char *path, int mode) {
    BEGIN(AT_FDCWD, path, 0)
    return REAL(access)(own, mode);
}
int mkdir(const char *path, mode_t mode) {
    BEGIN(AT_FDCWD, path, 1)
    return REAL(mkdir)(own, mode);
}
int mkdirat(int folder, const char *path, mode_t mode) {
    BEGIN(folder, path, 1)
    return REAL(mkdirat)(folder, own, mode);
}
int unlink(const char *path) {
    BEGIN(AT_FDCWD, path, 1)
    return REAL(unlink)(own);
}
int rmdir(const char *path) {
    BEGIN(AT_FDCWD, path, 1)
    return REAL(rmdir)(own);
}
int unlinkat(int folder, const char *path, int flags) {
    BEGIN(folder, path, 1)
    return REAL(unlinkat)(folder, own, flags);
}
int renameat(int from, const char *old, int folder, const char *path) {
    char before[LENGTH];
    const char *first = translate(from, old, before, 1);
    if (!first) return -1;
    BEGIN(folder, path, 1)
    return REAL(renameat)(from, first, folder, own);
}
int rename(const char *old, const char *path) { return renameat(AT_FDCWD, old, AT_FDCWD, path); }
DIR *opendir(const char *path) {
    char to[LENGTH];
    const char *own = translate(AT_FDCWD, path, to, 0);
    return own ? REAL(opendir)(own) : NULL;
}
ssize_t write(int handle, const void *data, size_t size) {
    int code = refused(handle);
    if (code) return errno = code, -1;
    return REAL(write)(handle, data, size);
}
int fsync(int handle) {
    if (fault("no-sync")) return errno = EINVAL, -1;
    if (fault("no-sync-38")) return errno = ENOSYS, -1;
    if (fault("sync-io")) return errno = EIO, -1;
    return REAL(fsync)(handle);
}
