"""Hints for each finding of the validators: what to do, for authors of NWB files who use pynwb."""

from __future__ import annotations

_ATLAS = (
    "write the location as a term of the Allen mouse atlas (CCF v3), for example 'VISp'; for other species leave it"
)
_SECONDS = "write times in seconds from the session's start; divide samples by their rate and milliseconds by 1000"
_TRANSPOSE = "transpose: time (or the row of the table) is the first axis of `data`"
_COMPRESS = "write the array through H5DataIO(data, compression='gzip')"
_TEXT_IN_FILE = "set it when the NWBFile is made; it can be added to a file opened in mode 'a'"

HINTS = {
    # The subject: what DANDI refuses a file for.
    "check_subject_exists": "add nwbfile.subject = Subject(subject_id=…, species=…, sex=…, age=…); DANDI needs it",
    "check_subject_id_exists": "set subject.subject_id; DANDI names files after it",
    "check_subject_id_no_slashes": "replace the slashes in subject.subject_id, for example by '-'",
    "check_subject_sex": "set subject.sex to 'F', 'M', 'U' (unknown) or 'O' (other)",
    "check_subject_species_exists": "set subject.species, for example 'Mus musculus' or 'Macaca mulatta'",
    "check_subject_species_form": "write subject.species as its Latin name, or as an NCBI taxonomy address",
    "check_subject_age": "set subject.age as ISO 8601, for example 'P90D', or a range 'P60D/P90D'; or date_of_birth",
    "check_subject_proper_age_range": "put the lower bound of subject.age first, for example 'P60D/P90D'",
    "check_subject_weight": "write subject.weight with its unit, for example '0.025 kg'",
    # The session.
    "check_session_id_no_slashes": "replace the slashes in session_id, for example by '-'",
    "check_session_start_time_old_date": "correct session_start_time, or leave it if the date was shifted on purpose",
    "check_session_start_time_future_date": "correct session_start_time: it lies in the future",
    "check_experimenter_exists": f"set experimenter=['Last, First']; {_TEXT_IN_FILE}",
    "check_experimenter_form": "write names as 'Last, First' or 'Last, First Middle'",
    "check_experiment_description": f"set experiment_description; {_TEXT_IN_FILE}",
    "check_institution": f"set institution; {_TEXT_IN_FILE}",
    "check_keywords": f"set keywords=[…]; {_TEXT_IN_FILE}",
    "check_doi_publications": "write related_publications as 'doi:10.…' or as an address at doi.org",
    "check_file_extension": "end the name of the file in .nwb",
    # Names and texts.
    "check_name_slashes": "remove the slashes from the object's name",
    "check_name_colons": "remove the colons from the object's name",
    "check_description": "describe the data in the description; it holds a placeholder",
    "check_processing_module_name": "use a processing module named ecephys, ophys, behavior, icephys, ogen or misc",
    "check_empty_string_for_optional_attribute": "leave the field out (None) instead of writing empty text",
    "check_missing_unit": "set the unit of the series, in SI words such as 'volts'; 'n/a' for numbers without one",
    # Times and shapes of series.
    "check_regular_timestamps": "store `rate` and `starting_time`; evenly spaced timestamps only take space",
    "check_data_orientation": _TRANSPOSE,
    "check_timestamps_match_first_dimension": "write one timestamp for each sample along `data`'s first axis",
    "check_timestamps_ascending": "sort the samples by time, or split the series where its timestamps decrease",
    "check_timestamps_without_nans": "leave out samples without a time, or add their times",
    "check_timestamp_of_the_first_sample_is_not_negative": "set session_start_time to the earliest time of all data",
    "check_rate_is_not_zero": "store the true `rate` in Hz, or `timestamps`",
    "check_rate_is_positive": "store the true `rate` in Hz; it cannot be negative",
    "check_rate_not_below_threshold": "check that `rate` is in Hz, not in seconds per sample",
    "check_resolution": "set resolution to the smallest step of the data, or to -1.0 if it is unknown",
    "check_time_series_duration": _SECONDS,
    "check_time_series_data_is_not_empty": "write the data, or leave the empty series out",
    "check_large_dataset_compression": _COMPRESS,
    "check_small_dataset_compression": _COMPRESS,
    # Tables.
    "check_dynamic_table_region_data_validity": "store row numbers of its table in the region: 0 to the number of rows minus 1",
    "check_empty_table": "fill the table, or leave it out",
    "check_time_intervals_start_time_not_constant": "write each row's own start_time; now all are the same",
    "check_time_interval_time_columns": "sort the rows by start_time",
    "check_time_intervals_stop_after_start": "correct rows that stop before they start",
    "check_time_intervals_duration": _SECONDS,
    "check_table_time_columns_are_not_negative": "store times relative to session_start_time, or set it earlier",
    "check_column_binary_capability": "store a column of two values as True and False",
    "check_single_row": "a table of one row may be better as attributes; it is valid",
    "check_table_values_for_dict": "store each entry of the dictionary in its own column",
    "check_col_not_nan": "leave out columns in which every value is missing",
    "check_ids_unique": "make the ids of the rows unique",
    # Units and electrodes.
    "check_units_table_has_spikes": "add the spike_times of each unit, or leave the Units table out",
    "check_negative_spike_times": "store spike times relative to session_start_time, or set it earlier",
    "check_units_resolution_is_set": "set Units.resolution to one period of the sampling clock, in seconds",
    "check_units_resolution_is_valid": "set Units.resolution in seconds: one period of the sampling clock",
    "check_spike_times_not_in_samples": _SECONDS,
    "check_spike_times_not_in_unobserved_interval": "widen obs_intervals to all that was recorded, or leave those spikes out",
    "check_ascending_spike_times": "sort the spike times of each unit, and remove duplicates",
    "check_units_table_duration": _SECONDS,
    "check_electrical_series_dims": _TRANSPOSE,
    "check_electrical_series_reference_electrodes_table": "make `electrodes` a region of nwbfile.electrodes",
    "check_electrical_series_unscaled_data": "set `conversion` (volts per stored step) for data stored as whole numbers",
    "check_electrodes_location_allen_ccf": _ATLAS,
    "check_intracellular_electrode_cell_id_exists": "set cell_id of the electrode",
    "check_intracellular_electrode_location_allen_ccf": _ATLAS,
    "check_sweeptable_deprecated": "write the tables of intracellular recordings (add_intracellular_recording) instead",
    # Optical physiology and optogenetics.
    "check_roi_response_series_dims": _TRANSPOSE,
    "check_roi_response_series_link_to_plane_segmentation": "make `rois` a region of a PlaneSegmentation",
    "check_emission_lambda_in_nm": "write emission_lambda in nanometres",
    "check_excitation_lambda_in_nm": "write excitation_lambda in nanometres",
    "check_plane_segmentation_image_mask_shape_against_ref_images": "write masks in the shape of the reference images",
    "check_imaging_plane_location_allen_ccf": _ATLAS,
    "check_optogenetic_stimulus_site_has_optogenetic_series": "add the OptogeneticSeries of the site, or leave the site out",
    # Images and behaviour.
    "check_image_series_external_file_valid": "move the external file to the path in external_file, or correct the path",
    "check_image_series_external_file_relative": "write external_file relative to the NWB file",
    "check_image_series_data_size": "keep long movies in a separate file, and name it in external_file",
    "check_image_series_starting_frame_without_external_file": "leave starting_frame out where there is no external_file",
    "check_order_of_images_unique": "name each image once in order_of_images",
    "check_order_of_images_len": "name every image in order_of_images",
    "check_index_series_points_to_image": "link the IndexSeries to indexed_images, not to an ImageSeries",
    "check_spatial_series_dims": "write a SpatialSeries with one to three columns: x, y, z",
    "check_spatial_series_unit": "set the unit of the SpatialSeries to meters, degrees, radians, pixels or a similar unit",
    "check_compass_direction_unit": "set the unit to 'radians' or 'degrees'",
    "check_spatial_series_radians_magnitude": "check whether the angles are radians; the unit may have to be 'degrees'",
    "check_spatial_series_degrees_magnitude": "check whether the angles are degrees, and wrap them to one turn",
}
SCHEMA_HINTS = {
    "MissingError": "add the missing part with pynwb: read the file, set what the message names, export it",
    "ExpectedArrayError": "store an array there, not a single value",
    "ShapeError": "store an array of the shape that the message names",
    "DtypeError": "store the type of number or text that the message names",
    "MissingDataType": "add the object that the message names",
    "IllegalLinkError": "store the object itself there, not a link to it",
    "IncorrectDataType": "store an object of the type that the message names",
    "IncorrectQuantityError": "store as many objects as the message names",
}
"""By class of pynwb's finding."""
DEFAULT_HINT = "look up the name of the check in NWB's best practices, https://nwbinspector.readthedocs.io"
DEFAULT_SCHEMA_HINT = (
    "write the file again with the newest version of the program that made it, or repair it with pynwb"
)
UNREADABLE = "open the file with pynwb to see where it fails; extensions it needs may have to be installed"


def hint_for_check(name: str) -> str:
    """Return what to do about a finding of nwbinspector.

    Parameters
    ----------
    name : str
        Of the check.
    """
    return HINTS.get(name, DEFAULT_HINT)


def hint_for_schema(name: str) -> str:
    """Return what to do about a finding of pynwb's validator.

    Parameters
    ----------
    name : str
        Of the finding's class.
    """
    return SCHEMA_HINTS.get(name, DEFAULT_SCHEMA_HINT)
