"""The sections of a claim's and an evaluation's page: functions from results to the HTML below a heading, or None."""
