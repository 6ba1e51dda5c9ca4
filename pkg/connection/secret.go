package connection

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"
)

// hidden is what stands wherever a secret would be printed.
const hidden = "***"

// maxSecret bounds a secret file; a credentials file with a certificate chain
// has a few thousand bytes.
const maxSecret = 64 << 10

var secretReference = regexp.MustCompile(`^\$\{(env:[A-Za-z_][A-Za-z0-9_]*|file:[^{}]+)\}$`)

// Secret names where a secret is: ${env:NAME} or ${file:/path}. It is read only
// by Resolve and never printed. The zero Secret is one that is not configured.
type Secret struct{ reference string }

// NewSecret returns the secret at reference, which is ${env:NAME} or
// ${file:/path}, or empty for none. The secret itself is refused: it must not
// stand in a configuration file.
func NewSecret(reference string) (Secret, error) {
	if reference != "" && !secretReference.MatchString(reference) {
		return Secret{}, errors.New("a secret cannot stand in the configuration; write ${env:NAME} or ${file:/path}")
	}
	return Secret{reference: reference}, nil
}

// IsZero reports whether no secret is configured.
func (s Secret) IsZero() bool { return s.reference == "" }

// Equal reports whether both name the same place.
func (s Secret) Equal(other Secret) bool { return s.reference == other.reference }

// File returns the path of a ${file:/path} secret, and "" for any other.
func (s Secret) File() string {
	path, ok := strings.CutPrefix(strings.TrimSuffix(s.reference, "}"), "${file:")
	if !ok {
		return ""
	}
	return path
}

// Resolve reads the secret. A file is read again when it has changed, so that a
// rotated secret is found; the line end at its end is dropped.
func (s Secret) Resolve() (string, error) {
	if s.IsZero() {
		return "", errors.New("no secret is configured; write ${env:NAME} or ${file:/path}")
	}
	kind, name, _ := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(s.reference, "${"), "}"), ":")
	if kind == "env" {
		return resolveEnv(name)
	}
	return resolveFile(name)
}

func resolveEnv(name string) (string, error) {
	value := os.Getenv(name)
	if value == "" {
		return "", fmt.Errorf("the environment variable %s is not set or empty; set it", name)
	}
	return value, nil
}

// secretFile is a secret file as it was read.
type secretFile struct {
	info  os.FileInfo
	value string
}

// secretFiles are the secret files that were read, by path: a target is called
// hundreds of times in a second.
var secretFiles sync.Map //nolint:gochecknoglobals // what files hold is the same for everybody

// settled is how old a file must be before it is taken for unchanged: one that is
// written twice within a tick of its file system's clock looks the same.
const settled = 2 * time.Second

func resolveFile(path string) (string, error) {
	info, err := os.Stat(path)
	if known, ok := secretFiles.Load(path); ok && err == nil {
		before, _ := known.(*secretFile)
		if os.SameFile(before.info, info) && before.info.ModTime().Equal(info.ModTime()) && before.info.Size() == info.Size() {
			return before.value, nil
		}
	}
	value, err := readSecret(path)
	if err == nil && info != nil && time.Since(info.ModTime()) > settled {
		secretFiles.Store(path, &secretFile{info: info, value: value})
	} else {
		secretFiles.Delete(path)
	}
	return value, err
}

func readSecret(path string) (string, error) {
	f, err := os.Open(path) //nolint:gosec // the path is the operator's
	if err != nil {
		return "", fmt.Errorf("open secret: %w; create the file or give this user access to it%s", err, elsewhere(path))
	}
	defer f.Close() //nolint:errcheck // only read
	data, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err != nil {
		return "", fmt.Errorf("read secret: %w", err)
	}
	if len(data) > maxSecret {
		return "", fmt.Errorf("the secret file %s has more than %d bytes; name the file that holds only the secret", path, maxSecret)
	}
	value := strings.TrimRight(string(data), "\r\n")
	if value == "" {
		return "", fmt.Errorf("the secret file %s is empty; write the secret into it", path)
	}
	return value, nil
}

// elsewhere is the remedy for a relative path that is read from another working
// directory.
func elsewhere(path string) string {
	here, err := os.Getwd()
	if err != nil || filepath.IsAbs(path) {
		return ""
	}
	return ", or write an absolute path: this one is relative to the working directory, " + here
}

// String returns *** in place of the secret.
func (s Secret) String() string {
	if s.IsZero() {
		return ""
	}
	return hidden
}

// GoString returns *** in place of the secret.
func (s Secret) GoString() string { return s.String() }

// Format writes *** in place of the secret, whatever the verb.
func (s Secret) Format(f fmt.State, _ rune) {
	_, _ = io.WriteString(f, s.String())
}

// MarshalText returns *** in place of the secret.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// MarshalJSON returns *** in place of the secret.
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + s.String() + `"`), nil }

// MarshalYAML returns *** in place of the secret.
func (s Secret) MarshalYAML() (any, error) { return s.String(), nil }

// LogValue returns *** in place of the secret.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }
