package testkit

import (
	"flag"
	"testing"
)

func TestEffort(t *testing.T) {
	tests := []struct {
		short string
		env   string
		want  int
	}{
		{"false", "", 2},
		{"false", "0", 2},
		{"false", "1", 3},
		{"true", "", 1},
		{"true", "1", 1},
	}
	before := flag.Lookup("test.short").Value.String()
	defer flag.Set("test.short", before)
	for _, tt := range tests {
		t.Setenv(LongEnv, tt.env)
		flag.Set("test.short", tt.short)
		if got := Effort(1, 2, 3); got != tt.want {
			t.Errorf("Effort(1, 2, 3) = %d with -short=%s and %s=%q, want %d", got, tt.short, LongEnv, tt.env, tt.want)
		}
	}
}
