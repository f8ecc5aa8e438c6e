package cache

import (
	"fmt"
	"testing"
	"time"
)

func TestDefaults(t *testing.T) {
	want := Options{
		MaxBytes: 64 << 20, BaseTTL: 5 * time.Minute, MinTTL: time.Minute, MaxTTL: time.Hour, NegativeTTL: 30 * time.Second,
		PollInterval: 5 * time.Second, PollTimeout: 2 * time.Second, StaleIfError: 5 * time.Minute,
	}
	if got := (Options{}).WithDefaults(); fmt.Sprint(got) != fmt.Sprint(want) || got.Validate() != nil {
		t.Errorf("%+v: %v", got, got.Validate())
	}
	for _, test := range []struct {
		given             Options
		least, base, most time.Duration
	}{
		{Options{MaxTTL: 2 * time.Minute}, time.Minute, 2 * time.Minute, 2 * time.Minute},
		{Options{MaxTTL: 20 * time.Second}, 20 * time.Second, 20 * time.Second, 20 * time.Second},
		{Options{BaseTTL: 30 * time.Second}, 30 * time.Second, 30 * time.Second, time.Hour},
		{Options{BaseTTL: 3 * time.Hour}, time.Minute, 3 * time.Hour, 3 * time.Hour},
		{Options{MinTTL: 10 * time.Minute}, 10 * time.Minute, 10 * time.Minute, time.Hour},
		{Options{MinTTL: 2 * time.Hour}, 2 * time.Hour, 2 * time.Hour, 2 * time.Hour},
	} {
		got := test.given.WithDefaults()
		if got.MinTTL != test.least || got.BaseTTL != test.base || got.MaxTTL != test.most || got.Validate() != nil {
			t.Errorf("%+v: %v", got, got.Validate())
		}
	}
	want.BaseTTL, want.MinTTL, want.MaxTTL, want.NegativeTTL = time.Minute, time.Minute, time.Minute, 30*time.Second
	if got := (Options{}).WithDefaults().WithoutFeed(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%+v", got)
	}
}

func TestValidateNamesTheField(t *testing.T) {
	for want, o := range map[string]Options{
		"cache option MaxBytes is 1000, must be at least 65536":                    {MaxBytes: 1000},
		"cache option MinTTL is 1ms, must be at least 1s":                          {MinTTL: time.Millisecond},
		"cache option BaseTTL is 5s, must be at least MinTTL (10s)":                {MinTTL: 10 * time.Second, BaseTTL: 5 * time.Second},
		"cache option MaxTTL is 1m0s, must be at least BaseTTL (2m0s)":             {BaseTTL: 2 * time.Minute, MaxTTL: time.Minute},
		"cache option NegativeTTL is -1s, must be positive, or 0 for the default":  {NegativeTTL: -time.Second},
		"cache option PollTimeout is -1s, must be positive, or 0 for the default":  {PollTimeout: -time.Second},
		"cache option PollInterval is -1s, must be positive, or 0 for the default": {PollInterval: -time.Second},
		"cache option StaleIfError is -1s, must be positive, or 0 for the default": {StaleIfError: -time.Second},
	} {
		if err := o.Validate(); err == nil || err.Error() != want {
			t.Errorf("%v, not %s", err, want)
		}
	}
}
