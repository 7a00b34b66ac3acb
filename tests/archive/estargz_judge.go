// Judges an eStargz blob with the stargz-snapshotter's own reader: judge BLOB TOC-DIGEST.
// It verifies the table of contents, every chunk and every file, and prints what it has seen, a line for each name.
package main

import (
	"fmt"
	"io"
	"os"
	"sort"

	"github.com/containerd/stargz-snapshotter/estargz"
	digest "github.com/opencontainers/go-digest"
)

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func main() {
	f, err := os.Open(os.Args[1])
	check(err)
	st, err := f.Stat()
	check(err)
	r, err := estargz.Open(io.NewSectionReader(f, 0, st.Size()))
	check(err)
	v, err := r.VerifyTOC(digest.Digest(os.Args[2]))
	check(err)
	root, ok := r.Lookup("")
	if !ok {
		check(fmt.Errorf("no root"))
	}
	var lines []string
	var walk func(e *estargz.TOCEntry, path string)
	walk = func(e *estargz.TOCEntry, path string) {
		content := ""
		if e.Type == "reg" && e.Size > 0 {
			content = read(r, v, e)
		}
		lines = append(lines, fmt.Sprintf("%q %s %d %o %d:%d %s:%s %q %d,%d %q %s",
			path, e.Type, e.Size, e.Mode, e.UID, e.GID, e.Uname, e.Gname, e.LinkName, e.DevMajor, e.DevMinor, e.Xattrs, content))
		e.ForeachChild(func(base string, c *estargz.TOCEntry) bool {
			walk(c, path+"/"+base)
			return true
		})
	}
	walk(root, "")
	sort.Strings(lines)
	for _, line := range lines {
		fmt.Println(line)
	}
}

func read(r *estargz.Reader, v estargz.TOCEntryVerifier, e *estargz.TOCEntry) string {
	sr, err := r.OpenFile(e.Name)
	check(err)
	whole := digest.Canonical.Digester()
	// in large pieces: each read decompresses its chunk from the start
	_, err = io.CopyBuffer(struct{ io.Writer }{whole.Hash()}, struct{ io.Reader }{sr}, make([]byte, 16<<20))
	check(err)
	if whole.Digest().String() != e.Digest {
		check(fmt.Errorf("%s: digest %s, read %s", e.Name, e.Digest, whole.Digest()))
	}
	for off := int64(0); off < e.Size; {
		ce, ok := r.ChunkEntryForOffset(e.Name, off)
		if !ok {
			check(fmt.Errorf("%s: no chunk at %d", e.Name, off))
		}
		dv, err := v.Verifier(ce)
		check(err)
		chunk := make([]byte, ce.ChunkSize)
		_, err = sr.ReadAt(chunk, off)
		check(err)
		_, err = dv.Write(chunk)
		check(err)
		if !dv.Verified() {
			check(fmt.Errorf("%s: chunk at %d is not what the table of contents says", e.Name, off))
		}
		off += ce.ChunkSize
	}
	return e.Digest
}
