/* Writes down, in order, what a process does to the files under $POWER_ROOT: see power.py. For LD_PRELOAD.

   A record is struct record, then the path, the second path and the data. Calls are made one at a time, so that the
   log has their order. A file that was mapped for writing changes without a call: its content is
   read when it is synced, which is the first moment at which any of it must be there. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { OPEN = 1, WRITE, SIZE, SYNC, SYNC_FOLDER, SYNC_ALL, RENAME, UNLINK, MKDIR, RMDIR, RESERVE, EXCHANGE };
struct record { uint32_t what, first, second, unused; uint64_t inode, size; int64_t at; };

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static const char *root;
static int out = -1;
static ino_t mapped[65536];
static int maps;

#define REAL(type, name, ...) \
    static type (*real)(__VA_ARGS__); \
    if (!real) real = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

__attribute__((constructor)) static void begin(void) {
    root = getenv("POWER_ROOT");
    const char *log = getenv("POWER_LOG");
    if (root && log) {
        int low = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        out = fcntl(low, F_DUPFD_CLOEXEC, 900);
        close(low);
    }
}

static int inside(const char *path) {
    size_t n;
    return out >= 0 && root && !strncmp(path, root, n = strlen(root)) && path[n] == '/';
}

static int of_handle(int handle, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", handle);
    ssize_t n = out < 0 ? -1 : readlink(link, path, PATH_MAX - 1);
    if (n < 0) return 0;
    path[n] = 0;
    return inside(path);
}

static int of_name(int folder, const char *name, char *path) {
    char base[PATH_MAX] = "";
    if (out < 0) return 0;
    if (*name != '/' && (folder == AT_FDCWD ? !getcwd(base, sizeof base) : !of_handle(folder, base))) return 0;
    return snprintf(path, PATH_MAX, "%s%s%s", base, *base ? "/" : "", name) < PATH_MAX && inside(path);
}

static void note(struct record r, const char *first, const char *second, const void *data) {
    int before = errno;
    r.first = first ? strlen(first) : 0;
    r.second = second ? strlen(second) : 0;
    struct iovec parts[] = {{&r, sizeof r}, {(void *)first, r.first}, {(void *)second, r.second}, {(void *)data, data ? r.size : 0}};
    if (writev(out, parts, 4) < (ssize_t)(sizeof r + r.first + r.second)) abort();
    errno = before;
}

static uint64_t inode(int handle) {
    struct stat s;
    return fstat(handle, &s) ? 0 : s.st_ino;
}

static int opening(int (*real)(int, const char *, int, ...), int folder, const char *name, int flags, mode_t mode) {
    char path[PATH_MAX];
    if (!(flags & (O_CREAT | O_TRUNC)) || !of_name(folder, name, path)) return real(folder, name, flags, mode);
    pthread_mutex_lock(&mutex);
    int handle = real(folder, name, flags, mode);
    if (handle >= 0) note((struct record){.what = OPEN, .inode = inode(handle), .at = !!(flags & O_TRUNC)}, path, 0, 0);
    pthread_mutex_unlock(&mutex);
    return handle;
}

#define MODE mode_t mode = 0; \
    if (flags & (O_CREAT | O_TMPFILE)) { va_list rest; va_start(rest, flags); mode = va_arg(rest, mode_t); va_end(rest); } \
    REAL(int, "openat64", int, const char *, int, ...)
int open(const char *name, int flags, ...) { MODE; return opening(real, AT_FDCWD, name, flags, mode); }
int open64(const char *name, int flags, ...) { MODE; return opening(real, AT_FDCWD, name, flags, mode); }
int openat(int folder, const char *name, int flags, ...) { MODE; return opening(real, folder, name, flags, mode); }
int openat64(int folder, const char *name, int flags, ...) { MODE; return opening(real, folder, name, flags, mode); }

#define NOTED(type, known, call, ...) \
    if (!(known)) return call; \
    pthread_mutex_lock(&mutex); \
    type done = call; \
    if (done >= 0) { __VA_ARGS__; } \
    pthread_mutex_unlock(&mutex); \
    return done

ssize_t write(int handle, const void *data, size_t size) {
    REAL(ssize_t, "write", int, const void *, size_t);
    char path[PATH_MAX];
    NOTED(ssize_t, of_handle(handle, path), real(handle, data, size),
          note((struct record){.what = WRITE, .inode = inode(handle), .size = done, .at = lseek(handle, 0, SEEK_CUR) - done}, 0, 0, data));
}
ssize_t pwrite64(int handle, const void *data, size_t size, off_t at) {
    REAL(ssize_t, "pwrite64", int, const void *, size_t, off_t);
    char path[PATH_MAX];
    NOTED(ssize_t, of_handle(handle, path), real(handle, data, size, at),
          note((struct record){.what = WRITE, .inode = inode(handle), .size = done, .at = at}, 0, 0, data));
}
ssize_t pwrite(int handle, const void *data, size_t size, off_t at) { return pwrite64(handle, data, size, at); }

int ftruncate64(int handle, off_t size) {
    REAL(int, "ftruncate64", int, off_t);
    char path[PATH_MAX];
    NOTED(int, of_handle(handle, path), real(handle, size), note((struct record){.what = SIZE, .inode = inode(handle), .at = size}, 0, 0, 0));
}
int ftruncate(int handle, off_t size) { return ftruncate64(handle, size); }

int posix_fallocate64(int handle, off_t from, off_t size) {
    REAL(int, "posix_fallocate64", int, off_t, off_t);
    char path[PATH_MAX];
    NOTED(int, of_handle(handle, path), real(handle, from, size),
          note((struct record){.what = RESERVE, .inode = inode(handle), .at = from + size}, 0, 0, 0));
}
int posix_fallocate(int handle, off_t from, off_t size) { return posix_fallocate64(handle, from, size); }

static void synced(int handle, const char *path) {
    struct stat s;
    struct record r = {.what = SYNC};
    if (fstat(handle, &s)) return;
    r.inode = s.st_ino;
    if (S_ISDIR(s.st_mode)) r.what = SYNC_FOLDER;
    char *data = 0;
    for (int i = 0; i < maps && !data; i++)
        if (mapped[i] == s.st_ino) {
            char link[64];
            snprintf(link, sizeof link, "/proc/self/fd/%d", handle);
            int again = open(link, O_RDONLY | O_CLOEXEC);
            data = malloc(s.st_size + 1);
            if (again < 0 || pread(again, data, s.st_size, 0) != s.st_size) abort();
            close(again);
            r.size = s.st_size;
            r.at = 1;
        }
    note(r, path, 0, data);
    free(data);
}
int fsync(int handle) {
    REAL(int, "fsync", int);
    char path[PATH_MAX];
    NOTED(int, of_handle(handle, path), real(handle), synced(handle, path));
}
int fdatasync(int handle) { return fsync(handle); }
void sync(void) {
    REAL(void, "sync", void);
    pthread_mutex_lock(&mutex);
    real();
    if (out >= 0) note((struct record){.what = SYNC_ALL}, 0, 0, 0);
    pthread_mutex_unlock(&mutex);
}

void *mmap64(void *where, size_t size, int protection, int flags, int handle, off_t at) {
    REAL(void *, "mmap64", void *, size_t, int, int, int, off_t);
    char path[PATH_MAX];
    if (handle >= 0 && protection & PROT_WRITE && (flags & MAP_TYPE) != MAP_PRIVATE && of_handle(handle, path) && maps < 65536)
        mapped[maps++] = inode(handle);
    return real(where, size, protection, flags, handle, at);
}
void *mmap(void *where, size_t size, int protection, int flags, int handle, off_t at) {
    return mmap64(where, size, protection, flags, handle, at);
}

int renameat(int from, const char *old, int to, const char *new) {
    REAL(int, "renameat", int, const char *, int, const char *);
    char first[PATH_MAX], second[PATH_MAX];
    NOTED(int, of_name(from, old, first) & of_name(to, new, second), real(from, old, to, new),
          note((struct record){.what = RENAME}, first, second, 0));
}
int renameat2(int from, const char *old, int to, const char *new, unsigned flags) {
    REAL(int, "renameat2", int, const char *, int, const char *, unsigned);
    char first[PATH_MAX], second[PATH_MAX];
    NOTED(int, of_name(from, old, first) & of_name(to, new, second), real(from, old, to, new, flags),
          note((struct record){.what = flags & RENAME_EXCHANGE ? EXCHANGE : RENAME}, first, second, 0));
}
int rename(const char *old, const char *new) { return renameat(AT_FDCWD, old, AT_FDCWD, new); }

int unlinkat(int folder, const char *name, int flags) {
    REAL(int, "unlinkat", int, const char *, int);
    char path[PATH_MAX];
    NOTED(int, of_name(folder, name, path), real(folder, name, flags),
          note((struct record){.what = flags & AT_REMOVEDIR ? RMDIR : UNLINK}, path, 0, 0));
}
int unlink(const char *name) { return unlinkat(AT_FDCWD, name, 0); }
int rmdir(const char *name) { return unlinkat(AT_FDCWD, name, AT_REMOVEDIR); }
int remove(const char *name) { struct stat s; return unlinkat(AT_FDCWD, name, !lstat(name, &s) && S_ISDIR(s.st_mode) ? AT_REMOVEDIR : 0); }

int mkdirat(int folder, const char *name, mode_t mode) {
    REAL(int, "mkdirat", int, const char *, mode_t);
    char path[PATH_MAX];
    NOTED(int, of_name(folder, name, path), real(folder, name, mode), note((struct record){.what = MKDIR}, path, 0, 0));
}
int mkdir(const char *name, mode_t mode) { return mkdirat(AT_FDCWD, name, mode); }
