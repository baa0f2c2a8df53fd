package peers

import (
	"archive/zip"
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestInstallFetchesAgainOnlyWhenItsFilesChangeOrItFailed(t *testing.T) {
	t.Parallel()
	from, to := t.TempDir(), filepath.Join(t.TempDir(), "new", "folder")
	write := func(text string) {
		if err := os.WriteFile(filepath.Join(from, "list"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	fetched, fail := 0, error(nil)
	step := func(name string, want int, wantErr error) {
		t.Helper()
		err := install(from, to, []string{"list"}, func() error { fetched++; return fail })
		if fetched != want || !errors.Is(err, wantErr) {
			t.Errorf("%s: fetched %d times, error %v; want %d, %v", name, fetched, err, want, wantErr)
		}
	}
	write("one")
	fail = errors.New("no network")
	step("the first fails", 1, fail)
	fail = nil
	step("after a failure", 2, nil)
	step("nothing new", 2, nil)
	write("two")
	step("another list", 3, nil)
	if text, err := os.ReadFile(filepath.Join(to, "list")); err != nil || string(text) != "two" {
		t.Errorf("the copy holds %q, %v", text, err)
	}
	if err := install(t.TempDir(), to, []string{"list"}, func() error { return nil }); err == nil || !strings.Contains(err.Error(), "source folder") {
		t.Errorf("a wrong source folder: %v", err)
	}
}

func archive(t *testing.T, files map[string]string) string {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for name, text := range files {
		header := &zip.FileHeader{Name: name}
		header.SetMode(0o755)
		f, err := w.CreateHeader(header)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "a.zip")
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestUnzipDropsTheTopFolderAndKeepsWhatMayRun(t *testing.T) {
	t.Parallel()
	to := t.TempDir()
	if err := unzip(archive(t, map[string]string{"keycloak-1/": "", "keycloak-1/bin/kc.sh": "#!/bin/sh\n"}), to); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(to, "bin", "kc.sh"))
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm()&0o100 == 0 {
		t.Errorf("mode %v: it may not run", info.Mode())
	}
}

func TestUnzipRefusesANameThatLeavesItsFolder(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"top/../../evil", "top//etc/evil"} {
		root := t.TempDir()
		if err := unzip(archive(t, map[string]string{name: "x"}), filepath.Join(root, "to")); err == nil {
			t.Errorf("%q was unpacked", name)
		}
		if _, err := os.Stat(filepath.Join(root, "evil")); err == nil {
			t.Errorf("%q left its folder", name)
		}
	}
}

func TestJavaMajorIsReadFromTheReleaseFile(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, release string
		want          int
	}{
		{name: "a JDK", release: "IMPLEMENTOR=\"X\"\nJAVA_VERSION=\"25.0.3\"\nOS_ARCH=\"x86_64\"\n", want: 25},
		{name: "an old JDK counts as 1", release: "JAVA_VERSION=\"1.8.0_402\"\n", want: 1},
		{name: "a file of something else", release: "hello\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			home := t.TempDir()
			if err := os.WriteFile(filepath.Join(home, "release"), []byte(tt.release), 0o600); err != nil {
				t.Fatal(err)
			}
			if got := javaMajor(home); got != tt.want {
				t.Errorf("major %d, want %d", got, tt.want)
			}
		})
	}
	if got := javaMajor(t.TempDir()); got != 0 {
		t.Errorf("a folder without a release file: %d, want 0", got)
	}
}
