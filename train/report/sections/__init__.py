"""The sections of report pages: functions from results to HTML, or to None where there is nothing to show."""
