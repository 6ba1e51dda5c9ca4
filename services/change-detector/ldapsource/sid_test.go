package ldapsource

import (
	"bytes"
	"encoding/hex"
	"testing"
)

func TestSIDText(t *testing.T) {
	t.Parallel()
	for binary, want := range map[string]string{
		"01020000000000052000000020020000":                         "S-1-5-32-544",
		"010500000000000515000000a065cf7e784b9b5fe77c8770091c0100": "S-1-5-21-2127521184-1604012920-1887927527-72713",
		"0101000000000001ffffffff":                                 "S-1-1-4294967295",
		"0100ffffffffffff":                                         "S-1-0xffffffffffff",
		"":                                                         "",
		"0102000000000005200000002002":                             "",
		"02020000000000052000000020020000":                         "",
		"0110000000000005":                                         "",
	} {
		raw, err := hex.DecodeString(binary)
		if err != nil {
			t.Fatal(err)
		}
		got, err := SIDText(raw)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v", binary, got, err)
		}
		if back, err := ParseSID(want); want != "" && (err != nil || !bytes.Equal(back, raw)) {
			t.Errorf("%s: %x, %v", want, back, err)
		}
	}
}

func TestPrimaryGroupSID(t *testing.T) {
	t.Parallel()
	user, err := ParseSID("s-1-5-21-1-2-3-1104")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := PrimaryGroupSID(user, "513"); got != "S-1-5-21-1-2-3-513" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	for _, relative := range []string{"", "x", "-1", "4294967296"} {
		if got, err := PrimaryGroupSID(user, relative); err == nil {
			t.Errorf("%q: %q", relative, got)
		}
	}
	if got, err := PrimaryGroupSID(user[:8], "513"); err == nil {
		t.Errorf("a short one: %q", got)
	}
	if text, err := SIDText(user); text != "S-1-5-21-1-2-3-1104" || err != nil {
		t.Errorf("the user's own one is %q now, %v", text, err)
	}
}

func FuzzSID(f *testing.F) {
	f.Add([]byte("\x01\x02\x00\x00\x00\x00\x00\x05\x20\x00\x00\x00\x20\x02\x00\x00"), "S-1-5-32-544")
	f.Add([]byte("\x01\x00\xff\xff\xff\xff\xff\xff"), "S-1-0xffff00000000")
	f.Fuzz(func(t *testing.T, raw []byte, text string) {
		if written, err := SIDText(raw); err == nil {
			if back, err := ParseSID(written); err != nil || !bytes.Equal(back, raw) {
				t.Errorf("%x is written %s and read as %x, %v", raw, written, back, err)
			}
		}
		if sid, err := ParseSID(text); err == nil {
			written, err := SIDText(sid)
			if again, second := ParseSID(written); err != nil || second != nil || !bytes.Equal(again, sid) {
				t.Errorf("%s is %x, written %s, %v, %v", text, sid, written, err, second)
			}
		}
	})
}
