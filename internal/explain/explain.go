// Package explain says what the commands say of an error.
package explain

import (
	"errors"
	"strings"

	"github.com/bedrocktoken/bedrocktoken"
	"github.com/bedrocktoken/bedrocktoken/internal/outage"
)

// Error says in one line what was wrong and, where that is known, in another what
// to do about it. The text is safe to print.
func Error(err error, profile string) string {
	text := strings.ReplaceAll(err.Error(), "\n", " ")
	if errors.Is(err, bedrocktoken.ErrRegion) {
		text += "\nGive -region, or set AWS_REGION, AWS_DEFAULT_REGION or the profile's region."
	}
	return text
}

// Temporary reports whether the source of the credentials does not answer or fails
// for the moment.
func Temporary(err error) bool { return outage.Is(err) }
