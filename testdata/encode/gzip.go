// Compresses pieces with Go's own compress/gzip, for the tests of the encoders that make the same bytes.
//
// Standard input is pieces, one after the other: a byte with the level, the length (4 bytes, little endian), the bytes.
// Standard output is a gzip file for each, after its length in the same way.
package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"io"
	"os"
)

func main() {
	in, out := bufio.NewReader(os.Stdin), bufio.NewWriter(os.Stdout)
	defer out.Flush()
	for {
		level, err := in.ReadByte()
		if err == io.EOF {
			return
		}
		var length uint32
		check(binary.Read(in, binary.LittleEndian, &length))
		var made bytes.Buffer
		writer, err := gzip.NewWriterLevel(&made, int(level))
		check(err)
		// As io.Copy writes: in pieces of 32 KiB.
		_, err = io.CopyBuffer(struct{ io.Writer }{writer}, io.LimitReader(in, int64(length)), make([]byte, 32<<10))
		check(err)
		check(writer.Close())
		check(binary.Write(out, binary.LittleEndian, uint32(made.Len())))
		_, err = out.Write(made.Bytes())
		check(err)
	}
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
