package mapping

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

	"golang.org/x/text/runes"
	"golang.org/x/text/transform"
	"golang.org/x/text/unicode/norm"
)

// commonName is the function cn.
func commonName(dn string) (string, error) {
	rdns, err := parseDN(dn)
	if err != nil {
		return "", fmt.Errorf("cn: %w", err)
	}
	if len(rdns) == 0 {
		return "", errors.New("cn: the distinguished name is empty")
	}
	for _, part := range rdns[0] {
		if strings.EqualFold(part.name, "cn") {
			return part.value, nil
		}
	}
	return rdns[0][0].value, nil
}

// localPart is the function localPart.
func localPart(mail string) (string, error) {
	if at := strings.LastIndexByte(mail, '@'); at >= 0 {
		return mail[:at], nil
	}
	return mail, nil
}

// spelled are the letters that no decomposition takes apart.
var spelled = strings.NewReplacer(
	"ß", "ss", "ẞ", "SS", "æ", "ae", "Æ", "AE", "œ", "oe", "Œ", "OE",
	"ø", "o", "Ø", "O", "ł", "l", "Ł", "L", "đ", "d", "Đ", "D", "ð", "d", "Ð", "D",
	"þ", "th", "Þ", "Th", "ħ", "h", "Ħ", "H", "ŧ", "t", "Ŧ", "T", "ŋ", "n", "Ŋ", "N",
	"ı", "i", "ĸ", "k", "ĳ", "ij", "Ĳ", "IJ",
)

// normalizeDiacritics is the function of the same name.
func normalizeDiacritics(s string) (string, error) {
	if !strings.ContainsFunc(s, func(r rune) bool { return r > unicode.MaxASCII }) {
		return s, nil
	}
	plain := transform.Chain(norm.NFD, runes.Remove(runes.In(unicode.Mn)), norm.NFC)
	out, _, err := transform.String(plain, s)
	if err != nil {
		return "", fmt.Errorf("normalizeDiacritics: %w", err)
	}
	return spelled.Replace(out), nil
}

// formatDate is the function formatDate.
func formatDate(value, layout string) (string, error) {
	t, err := parseTime(value)
	if err != nil {
		return "", fmt.Errorf("formatDate: %w", err)
	}
	out, err := writeTime(t.UTC(), layout)
	if err != nil {
		return "", fmt.Errorf("formatDate: %w", err)
	}
	return out, nil
}

// parseTime reads a generalized time (RFC 4517 section 3.3.13) or Active
// Directory's count of 100 ns since 1601.
func parseTime(value string) (time.Time, error) {
	if ticks, err := strconv.ParseInt(value, 10, 64); err == nil && len(value) >= 15 {
		return parseTicks(ticks)
	}
	for _, layout := range []string{"20060102150405Z0700", "200601021504Z0700", "2006010215Z0700"} {
		if t, err := time.Parse(layout, zone(value)); err == nil {
			return t, nil
		}
	}
	return time.Time{}, errors.New("the value is no generalized time")
}

// zone brings a generalized time into a form that package time reads: a comma
// becomes a full stop, an offset of hours gets its minutes.
func zone(value string) string {
	value = strings.Replace(value, ",", ".", 1)
	if sign := strings.LastIndexAny(value, "+-"); sign >= 0 && len(value)-sign == 3 {
		value += "00"
	}
	return value
}

const never = 1<<63 - 1

func parseTicks(ticks int64) (time.Time, error) {
	if ticks <= 0 || ticks == never {
		return time.Time{}, errors.New("the value means never")
	}
	const unixEpoch = 116_444_736_000_000_000 // ticks from 1601 to 1970
	since := ticks - unixEpoch
	return time.Unix(since/10_000_000, since%10_000_000*100), nil
}

// words are the parts of a layout, longest first.
var words = []struct{ word, layout string }{
	{"yyyy", "2006"},
	{"yy", "06"},
	{"MM", "01"},
	{"M", "1"},
	{"dd", "02"},
	{"d", "2"},
	{"HH", "15"},
	{"mm", "04"},
	{"SSS", ".000"},
	{"ss", "05"},
}

func writeTime(t time.Time, layout string) (string, error) {
	switch layout {
	case "date":
		return t.Format(time.DateOnly), nil
	case "datetime":
		return t.Format(time.RFC3339), nil
	case "unix":
		return strconv.FormatInt(t.Unix(), 10), nil
	}
	var out strings.Builder
	for rest := layout; rest != ""; {
		n, err := writeWord(&out, t, rest)
		if err != nil {
			return "", err
		}
		rest = rest[n:]
	}
	return out.String(), nil
}

// writeWord writes the first word, quotation or other character of layout and
// returns its length.
func writeWord(out *strings.Builder, t time.Time, layout string) (int, error) {
	for _, w := range words {
		if strings.HasPrefix(layout, w.word) {
			out.WriteString(strings.TrimPrefix(t.Format(w.layout), "."))
			return len(w.word), nil
		}
	}
	first := layout[0]
	switch {
	case first == '\'':
		end := strings.IndexByte(layout[1:], '\'')
		if end < 0 {
			return 0, errors.New("the layout has a quotation without end")
		}
		out.WriteString(layout[1 : end+1])
		return end + 2, nil
	case first >= 'a' && first <= 'z' || first >= 'A' && first <= 'Z':
		return 0, fmt.Errorf("the layout has an unknown word at %q", layout)
	default:
		out.WriteByte(first)
		return 1, nil
	}
}
